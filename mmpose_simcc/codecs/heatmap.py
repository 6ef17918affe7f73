# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Dict, Optional, Tuple

import numpy as np
from mmpose.registry import KEYPOINT_CODECS

from ..functional import decode as F
from ..functional import labels
from ..functional.arrays import Array, as_array, constant, namespace
from ..utils.checks import check_bool, check_choice, check_number, check_odd, check_size, invalid
from .base import SIGMA_RANGE, TensorCodec, check_maps


class BaseHeatmapCodec(TensorCodec):
    """Gaussian heatmaps, decoded around their argmax.

    Every heatmap codec of this package takes the same arguments for the
    labels, so that the decoder of a trained model is swapped by its ``type``
    alone. Subclasses give :meth:`_refine`.

    Args:
        input_size (tuple): Input image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells. Cell i lies at
            pixel ``i * w / W``.
        sigma (float): Standard deviation of the label in cells.
        unbiased (bool): Whether the label keeps the sub-cell centre (DARK,
            Section 3.2) or rounds it to a cell.
        blur_kernel_size (int, optional): Odd size of the Gaussian kernel of
            the decoders that smooth. Follows sigma by default: 11 for 2, 17
            for 3.

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
    ) -> None:
        super().__init__()
        self.input_size = check_size('input_size', input_size)
        self.heatmap_size = check_size('heatmap_size', heatmap_size)
        self.sigma = check_number('sigma', sigma, **SIGMA_RANGE)
        self.unbiased = check_bool('unbiased', unbiased)
        if blur_kernel_size is None:
            blur_kernel_size = F.blur_kernel_size_of(sigma)
        self.blur_kernel_size = check_odd('blur_kernel_size', blur_kernel_size)
        self.scale_factor = (np.array(self.input_size) / self.heatmap_size).astype(np.float32)
        self._scale = tuple(self.scale_factor.tolist())

    def encode_tensors(self, keypoints: Array, keypoints_visible: Array) -> Tuple[Array, Array]:
        """Labels of a batch, on its device.

        Args:
            keypoints (Array): Input-image pixels, shape (..., K, 2).
            keypoints_visible (Array): Shape (..., K); below 0.5 is not
                labelled.

        Returns:
            tuple:
            - heatmaps (Array): In [0, 1], shape (..., K, H, W).
            - keypoint_weights (Array): Shape (..., K): the visibility, or 0
              where the Gaussian does not reach into the map.
        """
        cells = keypoints / constant(self._scale, like=keypoints)
        labelled = keypoints_visible >= constant(0.5, keypoints_visible)
        heatmaps, in_reach = labels.gaussian_heatmaps(
            cells, self.heatmap_size, self.sigma, self.unbiased, labelled
        )
        # `>=` of bools: in reach, or not labelled
        weights = keypoints_visible * as_array(in_reach >= labelled, like=keypoints_visible)
        return heatmaps, weights

    def encode_batch(self, keypoints: Array, keypoints_visible: Array) -> Dict[str, Array]:
        """Labels of a batch by their names, on its device.

        Args:
            keypoints (Array): Input-image pixels, shape (..., N, K, 2).
            keypoints_visible (Array): Shape (..., N, K).

        Returns:
            dict:
            - heatmaps (Array): In [0, 1], shape (..., K, H, W), the maximum
              over the N instances.
            - keypoint_weights (Array): Shape (..., N, K).
        """
        heatmaps, weights = self.encode_tensors(keypoints, keypoints_visible)
        N = keypoints.shape[-3]
        if N == 1:
            heatmaps = heatmaps[..., 0, :, :, :]
        elif N == 0:
            heatmaps = heatmaps.sum(-4)
        else:
            heatmaps = namespace(heatmaps).amax(heatmaps, -4)
        return dict(heatmaps=heatmaps, keypoint_weights=weights)

    def decode_tensors(self, heatmaps: Array) -> Tuple[Array, Array]:
        """Decode a batch of heatmaps on its device.

        Args:
            heatmaps (Array): Shape (B, K, H, W).

        Returns:
            tuple:
            - keypoints (Array): Input-image pixels, shape (B, K, 2).
            - scores (Array): The maxima, shape (B, K). 0 where a map has no
              positive finite maximum; its keypoint is the argmax then.

        Raises:
            ValueError: The maps have another size or are not floating point.
        """
        heatmaps = check_maps('heatmaps', heatmaps, self.heatmap_size[::-1])
        xp = namespace(heatmaps)
        locs, scores = F.heatmap_argmax(heatmaps)
        usable = (scores > constant(0, scores)) & xp.isfinite(scores)
        keypoints = xp.where(
            usable[..., None], self._refine(heatmaps, locs), as_array(locs, like=heatmaps)
        )
        keypoints = keypoints * constant(self._scale, keypoints)
        return keypoints, xp.where(usable, scores, 0.0)

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
    ) -> None:
        super().__init__(input_size, heatmap_size, sigma, unbiased, blur_kernel_size)
        self.refine = check_choice('refine', refine, ('none', 'quarter', 'second_max'))
        if refine == 'second_max' and self.heatmap_size == (1, 1):
            raise invalid(
                'heatmap_size', heatmap_size, "at least two cells for refine='second_max'"
            )

    def _refine(self, heatmaps: Array, locs: Array) -> Array:
        if self.refine == 'quarter':
            return F.shift_quarter(heatmaps, locs)
        if self.refine == 'second_max':
            return F.shift_second_max(heatmaps, locs)
        return as_array(locs, like=heatmaps)
