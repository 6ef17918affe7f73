# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Optional, Tuple

from mmpose.registry import KEYPOINT_CODECS

from ..functional import refine_dark
from ..functional.arrays import Array
from ..utils.checks import check_choice
from .calibration import PathLike
from .heatmap import BaseHeatmapCodec


@KEYPOINT_CODECS.register_module()
class DARKCodec(BaseHeatmapCodec):
    """Distribution-aware coordinate representation of keypoints: unbiased
    labels (DARK, Section 3.2) and Taylor-expansion decoding (Section 3.1).

    A step longer than sigma along x or y is not taken: farther than that from
    its centre a label is below 0.61 of its peak, so the largest response is
    hardly there. The published code has no such bound, and its step can leave
    the map where the network is unsure.

    Args:
        input_size (tuple): Input image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells.
        sigma (float): Standard deviation of the label in cells.
        unbiased (bool): Whether the label keeps the sub-cell centre.
            Defaults to True.
        blur_kernel_size (int, optional): Odd size of the modulation kernel
            (DARK, Eq. 10); 1 does not modulate. Follows sigma by default: 11
            for 2, 17 for 3. The map is smoothed with zeros around it, so a
            large kernel distorts peaks of a small map: for 16 cells take 5,
            or ``border='symmetric'``.
        border (str): ``'clip'`` (the method) smooths with zeros around the
            map; ``'symmetric'`` ends the kernel on both sides where it would
            leave the map, which keeps peaks near the border where they are.
            Defaults to ``'clip'``.
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
        unbiased: bool = True,
        blur_kernel_size: Optional[int] = None,
        border: str = 'clip',
        use_udp: bool = False,
        calibration: Optional[PathLike] = None,
    ) -> None:
        super().__init__(input_size, heatmap_size, sigma, unbiased, blur_kernel_size, use_udp)
        self.border = check_choice('border', border, ('clip', 'symmetric'))
        self._calibrate(calibration)

    def _refine(self, heatmaps: Array, locs: Array) -> Array:
        return refine_dark(heatmaps, locs, self.blur_kernel_size, self.sigma, self.border)
