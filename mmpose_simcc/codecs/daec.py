# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Optional, Sequence, Tuple, Union

import numpy as np
from mmpose.registry import KEYPOINT_CODECS

from ..functional import decode_daec, empirical_delta
from ..functional.arrays import Array
from ..utils.checks import check_bool, check_choice, invalid
from .calibration import PathLike
from .heatmap import BaseHeatmapCodec

DeltaArgument = Union[str, float, Sequence]


def parse_delta(delta: DeltaArgument) -> np.ndarray:
    """The numbers of ``delta`` as an array that broadcasts to (K, 2).

    Raises:
        ValueError: ``delta`` has none of the allowed forms.
    """
    allowed = (
        "'empirical', a finite number, a pair (x, y) of them, or a list with a number or a pair "
        'for each keypoint (a file of tools/calibrate.py goes to `calibration`)'
    )
    try:
        array = np.array(delta)
        if array.dtype.kind not in 'iuf':  # text, booleans
            raise ValueError
        array = array.astype(np.float32)
    except (TypeError, ValueError):
        raise invalid('delta', delta, allowed) from None
    per_keypoint = array.ndim == 1 and len(array) > 2
    if per_keypoint:
        array = np.stack([array, array], axis=-1)
    if (
        array.ndim > 2
        or array.size == 0
        or (array.ndim and array.shape[-1] != 2)
        or not np.isfinite(array).all()
    ):
        raise invalid('delta', delta, allowed)
    return array


@KEYPOINT_CODECS.register_module()
class DAECCodec(BaseHeatmapCodec):
    """Distribution-aware and error-compensated decoding of heatmaps (DAEC,
    Section 3.2).

    Args:
        input_size (tuple): Input image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells.
        sigma (float): Standard deviation of the label in cells.
        unbiased (bool): Whether the label keeps the sub-cell centre (DARK,
            Section 3.2). Defaults to False.
        blur_kernel_size (int, optional): Odd size of the kernel of
            ``smooth=True``. Follows sigma by default: 11 for 2, 17 for 3.
        delta (str | float | sequence): Error-compensation factor in cells:
            ``'empirical'`` is the paper's, sigma + 2, or sigma + 1 with
            ``smooth=True``; a number, fractional allowed (the last column or
            row counts by its fraction); a pair for x and y; or a list with a
            number or a pair for each keypoint. Two numbers are a pair: for
            two keypoints give two pairs. Defaults to ``'empirical'``.
        corner (str): The corner of the window that is cut (DAEC, Section
            4.6): ``'br'``, ``'ur'``, ``'bl'`` or ``'ul'``. Defaults to
            ``'br'``, the method.
        smooth (bool): Whether the map is smoothed first (DAEC, Section 4.5).
            Defaults to False.
        border (str): Where the window ends near the map's border:
            ``'clip'`` (the method) at the border; ``'symmetric'`` at the
            distance to the nearest border on both sides, see
            :func:`~mmpose_simcc.functional.decode_daec`. Defaults to
            ``'clip'``.
        use_udp (bool): Whether the pipelines' ``TopdownAffine`` has
            ``use_udp``, see :class:`BaseHeatmapCodec`. Defaults to False.
        calibration (str | Path, optional): JSON file that ``tools/calibrate.py`` made for the
            model. It replaces the other arguments of decoding and maps the scores.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        input_size: Tuple[int, int],
        heatmap_size: Tuple[int, int],
        sigma: float,
        unbiased: bool = False,
        blur_kernel_size: Optional[int] = None,
        delta: DeltaArgument = 'empirical',
        corner: str = 'br',
        smooth: bool = False,
        border: str = 'clip',
        use_udp: bool = False,
        calibration: Optional[PathLike] = None,
    ) -> None:
        super().__init__(input_size, heatmap_size, sigma, unbiased, blur_kernel_size, use_udp)
        self.corner = check_choice('corner', corner, ('br', 'ur', 'bl', 'ul'))
        self.smooth = check_bool('smooth', smooth)
        self.border = check_choice('border', border, ('clip', 'symmetric'))
        if isinstance(delta, str) and delta == 'empirical':
            delta = empirical_delta(self.sigma, smooth)
        self.delta = parse_delta(delta)
        self._delta_numbers = self.delta.tolist()  # compiled code reads numbers, not arrays
        self._calibrate(calibration)

    def _refine(self, heatmaps: Array, locs: Array) -> Array:
        K = locs.shape[-2]
        if self.delta.ndim == 2 and len(self.delta) != K:
            raise invalid('delta', self.delta.tolist(), f'one entry for each of the {K} keypoints')
        return decode_daec(
            heatmaps,
            locs,
            self.sigma,
            self._delta_numbers,
            corner=self.corner,
            blur_kernel_size=self.blur_kernel_size if self.smooth else 1,
            border=self.border,
        )
