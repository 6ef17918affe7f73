# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Optional, Tuple

from mmpose.registry import KEYPOINT_CODECS

from ..functional.arrays import Array
from ..functional.decode import refine_dark
from .heatmap import BaseHeatmapCodec


@KEYPOINT_CODECS.register_module()
class DARKCodec(BaseHeatmapCodec):
    """Distribution-aware coordinate representation of keypoints: unbiased
    labels (DARK, Section 3.2) and Taylor-expansion decoding (Section 3.1).

    Args:
        input_size (tuple): Input image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells.
        sigma (float): Standard deviation of the label in cells.
        unbiased (bool): Whether the label keeps the sub-cell centre.
            Defaults to True.
        blur_kernel_size (int, optional): Odd size of the modulation kernel
            (DARK, Eq. 10); 1 does not modulate. Follows sigma by default: 11
            for 2, 17 for 3.

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
    ) -> None:
        super().__init__(input_size, heatmap_size, sigma, unbiased, blur_kernel_size)

    def _refine(self, heatmaps: Array, locs: Array) -> Array:
        return refine_dark(heatmaps, locs, self.blur_kernel_size)
