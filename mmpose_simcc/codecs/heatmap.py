# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Dict, Optional, Tuple

import numpy as np
from mmpose.registry import KEYPOINT_CODECS

from .. import functional as F
from ..functional.arrays import Array, as_array, is_finite, namespace
from ..utils.checks import check_bool, check_choice, check_number, check_odd, check_size, invalid
from .base import SIGMA_RANGE, TensorCodec, check_maps
from .calibration import PathLike


class BaseHeatmapCodec(TensorCodec):
    """Gaussian heatmaps, decoded around their argmax.

    All heatmap codecs of this package take the same arguments for labels, so
    that the ``type`` alone changes the decoder of a trained model. Subclasses
    implement :meth:`_refine`.

    Args:
        input_size (tuple): Input image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells.
        sigma (float): Standard deviation of the label in cells.
        unbiased (bool): Whether the label keeps the sub-cell centre (DARK,
            Section 3.2) or rounds it to a cell.
        blur_kernel_size (int, optional): Odd size of the Gaussian kernel of
            the decoders that smooth. Follows sigma by default: 11 for 2, 17
            for 3.
        use_udp (bool): As ``use_udp`` of the pipelines' ``TopdownAffine``:
            cell i lies at pixel ``i * (w - 1) / (W - 1)`` and is decoded to
            ``i * w / (W - 1)``, and labels are those of ``UDPHeatmap``,
            whatever ``unbiased`` says. Defaults to False, ``i * w / W``.

    Raises:
        ValueError: An argument is out of its range.
    """

    label_mapping_table = dict(keypoint_weights='keypoint_weights')
    field_mapping_table = dict(heatmaps='heatmaps')

    def __init__(
        self,
        input_size: Tuple[int, int],
        heatmap_size: Tuple[int, int],
        sigma: float,
        unbiased: bool = False,
        blur_kernel_size: Optional[int] = None,
        use_udp: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = check_size('input_size', input_size)
        self.heatmap_size = check_size('heatmap_size', heatmap_size)
        self.sigma = check_number('sigma', sigma, **SIGMA_RANGE)
        self.unbiased = check_bool('unbiased', unbiased)
        if blur_kernel_size is None:
            blur_kernel_size = F.blur_kernel_size_of(sigma)
        self.blur_kernel_size = check_odd('blur_kernel_size', blur_kernel_size)
        self.use_udp = check_bool('use_udp', use_udp)
        if use_udp and min(*self.input_size, *self.heatmap_size) < 2:
            raise invalid('heatmap_size', heatmap_size, 'at least 2 cells wide and high for UDP')
        pitch = F.cell_pitch(self.input_size, self.heatmap_size, use_udp)
        self.scale_factor = pitch.astype(np.float32)
        self._set_decoded_pitch(pitch)

    def encode_tensors(self, keypoints: Array, keypoints_visible: Array) -> Dict[str, Array]:
        """Labels of a batch by their names, on its device.

        Args:
            keypoints (Array): Input-image pixels, shape (..., 1, K, 2): one
                instance a sample, as in MMPose's heatmap codecs.
            keypoints_visible (Array): Shape (..., 1, K); below 0.5 is not
                labelled.

        Returns:
            dict:
            - heatmaps (Array): In [0, 1], shape (..., K, H, W).
            - keypoint_weights (Array): Shape (..., 1, K): the visibility, or
              0 where the Gaussian does not reach the map.

        Raises:
            ValueError: A sample has more or fewer instances than one.
        """
        if keypoints.shape[-3] != 1:
            raise invalid(
                'keypoints', tuple(keypoints.shape), 'of one instance a sample, shape (1, K, 2)'
            )
        cells = keypoints / as_array(self.scale_factor, like=keypoints)
        labelled = keypoints_visible >= 0.5
        if self.use_udp:
            heatmaps, seen = F.udp_heatmaps(cells, self.heatmap_size, self.sigma, labelled)
        else:
            heatmaps, seen = F.gaussian_heatmaps(
                cells, self.heatmap_size, self.sigma, self.unbiased, labelled
            )
        weights = keypoints_visible * (seen | ~labelled)
        return dict(heatmaps=heatmaps[..., 0, :, :, :], keypoint_weights=weights)

    def _decode(self, heatmaps: Array) -> Tuple[Array, Array]:
        """The scores are the maxima. A map without a positive finite maximum has the score 0,
        and its keypoint is the argmax."""
        heatmaps = check_maps('heatmaps', heatmaps, self.heatmap_size[::-1])
        xp = namespace(heatmaps)
        locs, scores = F.heatmap_argmax(heatmaps)
        usable = (scores > 0) & is_finite(scores)
        cells = self._refine(heatmaps, locs)
        cells = xp.where(usable[..., None], cells, as_array(locs, like=heatmaps))
        return self._to_pixels(cells), xp.where(usable, scores, 0.0)

    def _refine(self, heatmaps: Array, locs: Array) -> Array:
        """From the integer argmax (x, y) to sub-cell coordinates."""
        raise NotImplementedError


@KEYPOINT_CODECS.register_module()
class HeatmapCodec(BaseHeatmapCodec):
    """Gaussian heatmaps with the standard decoders.

    Args:
        input_size (tuple): Input image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells.
        sigma (float): Standard deviation of the label in cells.
        unbiased (bool): Whether the label keeps the sub-cell centre (DARK,
            Section 3.2). Defaults to False.
        blur_kernel_size (int, optional): Not used by these decoders, see
            :class:`BaseHeatmapCodec`.
        refine (str): ``'none'`` takes the argmax, ``'quarter'`` moves it a
            quarter of a cell towards the larger neighbour along each axis
            (HRNet, SimpleBaseline, stock MMPose), ``'second_max'`` a quarter
            of a cell towards the second maximum (DARK, Eq. 1). Defaults to
            ``'quarter'``.
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
        refine: str = 'quarter',
        use_udp: bool = False,
        calibration: Optional[PathLike] = None,
    ) -> None:
        super().__init__(input_size, heatmap_size, sigma, unbiased, blur_kernel_size, use_udp)
        self.refine = check_choice('refine', refine, ('none', 'quarter', 'second_max'))
        if refine == 'second_max' and self.heatmap_size == (1, 1):
            raise invalid(
                'heatmap_size', heatmap_size, "at least two cells for refine='second_max'"
            )
        self._calibrate(calibration)

    def _refine(self, heatmaps: Array, locs: Array) -> Array:
        if self.refine == 'quarter':
            return F.shift_quarter(heatmaps, locs)
        if self.refine == 'second_max':
            return F.shift_second_max(heatmaps, locs)
        return as_array(locs, like=heatmaps)
