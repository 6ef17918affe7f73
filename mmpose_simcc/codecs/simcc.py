# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import math
from typing import Dict, Optional, Sequence, Tuple, Union

import numpy as np
from mmpose.registry import KEYPOINT_CODECS

from ..functional import decode as F
from ..functional import labels
from ..functional.arrays import Array, as_array, at_most, constant, namespace, softmax, stack, whole
from ..utils.checks import check_bool, check_choice, check_number, check_odd, check_size, invalid
from .base import SIGMA_RANGE, TensorCodec, check_maps
from .learned import load_learned_delta


def _check_pair(name: str, value: Union[float, Sequence[float]], **bounds) -> Tuple[float, float]:
    """One number for both axes, or one for x and one for y."""
    pair = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value, value)
    if len(pair) != 2:
        raise invalid(name, value, 'a number or a pair of numbers (x, y)')
    return tuple(check_number(name, number, **bounds) for number in pair)


@KEYPOINT_CODECS.register_module()
class SimCCCodec(TensorCodec):
    """Coordinate classification along x and y (SimCC, Section 3).

    A pixel is divided into ``simcc_split_ratio`` = k bins: coordinate x lies
    at bin ``x * k`` of ``w * k`` bins, rounded to a whole number of bins.

    Args:
        input_size (tuple): Input image size (w, h) in pixels.
        simcc_split_ratio (float): Bins a pixel, at least 1. Defaults to 2.
        label_smoothing (str): ``'gaussian'`` and ``'laplace'`` place the
            density around the exact coordinate, ``'equal'`` spreads
            ``smoothing`` over all other bins, ``'none'`` is one-hot (SimCC,
            Section 3 and Table 5). Defaults to ``'gaussian'``.
        sigma (float | tuple): Standard deviation (scale for
            ``'laplace'``) of the label in bins, one for both axes or a pair
            (x, y). For ``'none'`` and ``'equal'`` only ``refine`` uses it.
            Defaults to 6.
        smoothing (float): What ``'equal'`` takes from the right bin, in
            [0, 1). Defaults to 0.1.
        refine (str): Sub-bin decoding along each axis: ``'none'``,
            ``'dark'`` or ``'daec'``. Defaults to ``'none'``.
        blur_kernel_size (int, optional): Odd size of the kernel of
            ``refine='dark'`` in bins; 1 does not smooth. Follows sigma by
            default.
        delta (float | tuple | str): Error-compensation factor of
            ``refine='daec'`` in bins, one or a pair (x, y), or a path ending
            in ``.json``, to read what ``tools/calibrate_daec.py`` learned.
            Defaults to 0, a symmetric window.
        score (str): ``'softmax'`` gives scores in [0, 1] that mean the same
            for every smoothing and k: the probability within a pixel of the
            peak, relative to a perfect prediction's, the smaller of the two
            axes. ``'logit'`` gives stock MMPose's: the smaller of the
            largest logits, unbounded. Defaults to ``'softmax'``.
        dense_labels (bool): Whether labels are vectors. With False they are
            the nearest bins, from which :class:`SimCCKLLoss` has the same
            value for ``'none'`` and ``'equal'``. Defaults to True.

    Raises:
        ValueError: An argument is out of its range.
    """

    label_mapping_table = dict(
        keypoint_x_labels='keypoint_x_labels',
        keypoint_y_labels='keypoint_y_labels',
        keypoint_weights='keypoint_weights',
    )

    def __init__(
        self,
        input_size: Tuple[int, int],
        simcc_split_ratio: float = 2.0,
        label_smoothing: str = 'gaussian',
        sigma: Union[float, Tuple[float, float]] = 6.0,
        smoothing: float = 0.1,
        refine: str = 'none',
        blur_kernel_size: Optional[int] = None,
        delta: Union[float, Tuple[float, float], str] = 0.0,
        score: str = 'softmax',
        dense_labels: bool = True,
    ) -> None:
        super().__init__()
        self.input_size = check_size('input_size', input_size)
        self.simcc_split_ratio = check_number('simcc_split_ratio', simcc_split_ratio, low=1)
        self.label_smoothing = check_choice(
            'label_smoothing', label_smoothing, ('none', 'equal', 'gaussian', 'laplace')
        )
        self.sigma = _check_pair('sigma', sigma, **SIGMA_RANGE)
        self.smoothing = check_number('smoothing', smoothing, low=0, below=1)
        self.refine = check_choice('refine', refine, ('none', 'dark', 'daec'))
        if blur_kernel_size is not None:
            check_odd('blur_kernel_size', blur_kernel_size)
        self.blur_kernel_size = blur_kernel_size
        if isinstance(delta, str) and delta.endswith('.json'):
            delta = load_learned_delta(
                delta,
                'simcc',
                dict(
                    sigma=self.sigma,
                    simcc_split_ratio=self.simcc_split_ratio,
                    input_size=self.input_size,
                ),
            )
        self.delta = _check_pair('delta', delta)
        self.score = check_choice('score', score, ('softmax', 'logit'))
        self.dense_labels = check_bool('dense_labels', dense_labels)
        if not dense_labels and label_smoothing not in ('none', 'equal'):
            raise invalid(
                'dense_labels', dense_labels, f"True for label_smoothing='{label_smoothing}'"
            )
        self.num_bins = tuple(round(size * simcc_split_ratio) for size in self.input_size)
        if min(self.num_bins) < 2:
            raise invalid('input_size', input_size, 'at least 2 bins wide and high')
        self.peak_radius = math.ceil(self.simcc_split_ratio)  # a pixel
        self.perfect_peak = self._perfect_mass(0)
        self.perfect_mass = self._perfect_mass(self.peak_radius)

    def encode_tensors(
        self, keypoints: Array, keypoints_visible: Array
    ) -> Tuple[Array, Array, Array]:
        """Labels of a batch, on its device.

        Args:
            keypoints (Array): Input-image pixels, shape (..., K, 2).
            keypoints_visible (Array): Shape (..., K); below 0.5 is not
                labelled.

        Returns:
            tuple:
            - keypoint_x_labels (Array): Shape (..., K, w * k). Without dense
              labels the nearest bins, int64, shape (..., K).
            - keypoint_y_labels (Array): Shape (..., K, h * k), or (..., K).
            - keypoint_weights (Array): Shape (..., K): the visibility, or 0
              where the keypoint lies outside the image. Labels that are not
              used are all zeros.
        """
        bins = keypoints * constant(self.simcc_split_ratio, keypoints)
        inside = labels.simcc_inside(bins, self.num_bins)
        labelled = keypoints_visible >= constant(0.5, keypoints_visible)
        # `>=` of bools: inside, or not labelled
        weights = keypoints_visible * as_array(inside >= labelled, like=keypoints_visible)
        drawn = inside & labelled
        if self.dense_labels:
            return (*self._dense_labels(bins, self.num_bins, drawn), weights)
        bins[~drawn] = 0
        x_bins, y_bins = (
            whole(bins[..., axis].round(), 0, number - 1)
            for axis, number in enumerate(self.num_bins)
        )
        return x_bins, y_bins, weights

    def _dense_labels(
        self, bins: Array, num_bins: Sequence[int], drawn: Optional[Array] = None
    ) -> Tuple[Array, Array]:
        if self.label_smoothing == 'gaussian':
            return labels.simcc_gaussian(bins, num_bins, self.sigma, drawn)
        if self.label_smoothing == 'laplace':
            return labels.simcc_laplace(bins, num_bins, self.sigma, drawn)
        if self.label_smoothing == 'equal':
            return labels.simcc_equal(bins, num_bins, self.smoothing, drawn)
        return labels.simcc_one_hot(bins, num_bins, drawn)

    @property
    def bin_smoothing(self) -> float:
        """What labels that are bins leave to the other bins."""
        return self.smoothing if self.label_smoothing == 'equal' else 0.0

    def _perfect_mass(self, radius: int) -> Tuple[float, ...]:
        """The probability within some bins of the peak of a perfect
        prediction, along each axis: that of a label centred on a bin, far
        from the ends, normalised to 1."""
        center = np.array(self.num_bins)
        width = [2 * number + 1 for number in self.num_bins]
        return tuple(
            float(F.peak_mass(label, at, radius) / label.sum())
            for label, at in zip(self._dense_labels(center.astype(np.float64), width), center)
        )

    def encode_batch(self, keypoints: Array, keypoints_visible: Array) -> Dict[str, Array]:
        """Labels of a batch by their names, on its device.

        Args:
            keypoints (Array): Input-image pixels, shape (..., N, K, 2).
            keypoints_visible (Array): Shape (..., N, K).

        Returns:
            dict:
            - keypoint_x_labels (Array): Shape (..., N, K, w * k), or
              (..., N, K) without dense labels.
            - keypoint_y_labels (Array): Shape (..., N, K, h * k), or
              (..., N, K).
            - keypoint_weights (Array): Shape (..., N, K), 0 for a keypoint
              outside the image.
        """
        x_labels, y_labels, weights = self.encode_tensors(keypoints, keypoints_visible)
        return dict(
            keypoint_x_labels=x_labels, keypoint_y_labels=y_labels, keypoint_weights=weights
        )

    def decode_tensors(self, simcc_x: Array, simcc_y: Array) -> Tuple[Array, Array]:
        """Decode a batch of logits on its device.

        Args:
            simcc_x (Array): Logits along x, shape (B, K, w * k).
            simcc_y (Array): Logits along y, shape (B, K, h * k).

        Returns:
            tuple:
            - keypoints (Array): Input-image pixels, shape (B, K, 2).
            - scores (Array): Shape (B, K). 0 where the largest logit is not
              finite or all logits are equal.

        Raises:
            ValueError: The logits have another size or are not floating
                point.
        """
        simcc_x = check_maps('simcc_x', simcc_x, self.num_bins[:1])
        simcc_y = check_maps('simcc_y', simcc_y, self.num_bins[1:])
        if simcc_x.shape[:2] != simcc_y.shape[:2]:
            raise invalid(
                'simcc_y',
                tuple(simcc_y.shape),
                f'of the B and K of `simcc_x`, {tuple(simcc_x.shape[:2])}',
            )
        xp = namespace(simcc_x)
        x, *x_peak = self._decode_axis(simcc_x, 0)
        y, *y_peak = self._decode_axis(simcc_y, 1)
        keypoints = stack([x.reshape(-1), y.reshape(-1)]).T
        keypoints = keypoints.reshape(*x.shape, 2)
        keypoints = keypoints / constant(self.simcc_split_ratio, keypoints)
        scores = xp.minimum(x_peak[0], y_peak[0])
        usable = xp.isfinite(scores)
        if self.score == 'softmax':
            scores = at_most(scores, 1.0)
            usable = usable & x_peak[1] & y_peak[1]
        return keypoints, xp.where(usable, scores, 0.0)

    def _decode_axis(self, logits: Array, axis: int) -> Tuple[Array, ...]:
        """Bins and scores along one axis, and for scores by softmax whether
        not all logits are equal. The score of a vector that cannot be decoded
        is not finite."""
        locs, peak = F.vector_argmax(logits)
        coords = as_array(locs, like=logits)
        if self.refine == 'none' and self.score == 'logit':
            return coords, peak
        probabilities = softmax(logits)
        if self.refine != 'none':
            coords = self._refine(probabilities, locs, axis)
        if self.score == 'logit':
            return coords, peak
        mass = F.peak_mass(probabilities, locs, self.peak_radius)
        top = F.vector_at(probabilities, locs)
        return (
            coords,
            mass / constant(self.perfect_mass[axis], mass),
            top > constant((1 + 1e-6) / logits.shape[-1], top),
        )

    def _refine(self, probabilities: Array, locs: Array, axis: int) -> Array:
        sigma = self.sigma[axis]
        if self.refine == 'daec':
            return F.decode_daec_1d(probabilities, locs, sigma, self.delta[axis])
        size = self.blur_kernel_size or F.blur_kernel_size_of(sigma)
        return F.refine_dark_1d(probabilities, locs, size)
