# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import math
from typing import Dict, Optional, Sequence, Tuple, Union

import numpy as np
from mmpose.registry import KEYPOINT_CODECS

from .. import functional as F
from ..functional.arrays import Array, as_array, is_finite, namespace, softmax
from ..utils.checks import check_bool, check_choice, check_number, check_odd, check_size, invalid
from .base import SIGMA_RANGE, TensorCodec, check_maps
from .calibration import PathLike


def _check_pair(name: str, value: Union[float, Sequence[float]], **bounds) -> Tuple[float, float]:
    """One number for both axes, or one for x and one for y."""
    pair = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value, value)
    if len(pair) != 2:
        raise invalid(name, value, 'a number or a pair of numbers (x, y)')
    return tuple(check_number(name, number, **bounds) for number in pair)


# With at least this sigma a density that is sampled at the bins sums to 1 within 2% (Gaussian) or
# 8% (Laplace). Narrower ones sum to anything from 0.2 to 2.
MIN_SIGMA = dict(gaussian=0.5, laplace=1.0)

# Arguments that only stock's SimCCLabel has: the value that is accepted, because it changes
# nothing, and what to write instead of any other.
STOCK_ARGUMENTS = dict(
    smoothing_type=('gaussian', "`label_smoothing='equal'` with `smoothing` is its 'standard'"),
    label_smooth_weight=(0.0, 'here it is `smoothing`'),
    use_dark=(False, "here it is `refine='dark'`"),
    decode_visibility=(False, 'there is no visibility beside the scores'),
    decode_beta=(150.0, 'there is no visibility beside the scores'),
)


def _check_stock(arguments: Dict[str, object]) -> None:
    for name, value in arguments.items():
        if name not in STOCK_ARGUMENTS:
            raise TypeError(f'SimCCCodec has no argument `{name}`')
        allowed, instead = STOCK_ARGUMENTS[name]
        if value != allowed:
            raise invalid(name, value, f'{allowed!r}: {instead}')


@KEYPOINT_CODECS.register_module()
class SimCCCodec(TensorCodec):
    """Coordinate classification along x and y (SimCC, Section 3).

    A pixel is divided into ``simcc_split_ratio`` = k bins: coordinate x lies
    at bin ``x * k`` of ``w * k`` bins, rounded to a whole number of bins.

    Keypoints up to half a bin outside the image have labels. Stock's
    ``SimCCLabel`` also labels keypoints up to 3 sigma outside, by the tail
    of the Gaussian.

    Args:
        input_size (tuple): Input image size (w, h) in pixels.
        simcc_split_ratio (float): Bins a pixel, at least 1. Defaults to 2.
        label_smoothing (str): ``'gaussian'`` and ``'laplace'`` place the
            density around the exact coordinate, ``'equal'`` spreads
            ``smoothing`` over all other bins, ``'none'`` is one-hot (SimCC,
            Section 3 and Table 5). Defaults to ``'gaussian'``.
        sigma (float | tuple): Standard deviation (scale for
            ``'laplace'``) of the label in bins, one for both axes or a pair
            (x, y). At least 0.5 for ``'gaussian'`` and 1 for ``'laplace'``;
            labels would not sum to 1 otherwise. For ``'none'`` and
            ``'equal'`` only ``refine`` uses it. Defaults to 6.
        smoothing (float): The probability that ``'equal'`` moves from the
            keypoint's bin to all others, in [0, 1). Defaults to 0.1.
        refine (str): Sub-bin decoding along each axis: ``'none'``,
            ``'dark'`` or ``'daec'``. Defaults to ``'none'``. A step of
            ``'dark'`` that is longer than sigma is not taken.
        blur_kernel_size (int, optional): Odd size of the kernel of
            ``refine='dark'`` in bins; 1 does not smooth. Follows sigma by
            default.
        delta (float | tuple): Error-compensation factor of ``refine='daec'`` in bins, one or a
            pair (x, y). Defaults to 0, a symmetric window.
        border (str): What ``refine`` does near the ends of an axis:
            ``'clip'`` ends its window at the end of the axis, which moves
            keypoints inwards; ``'symmetric'`` reads equally far on both sides
            of the maximum, which leaves them in place. See
            :func:`~mmpose_simcc.functional.decode_daec` and
            :func:`~mmpose_simcc.functional.refine_dark`. Defaults to
            ``'clip'``.
        score (str): ``'softmax'`` gives scores in [0, 1] that mean the same
            for every smoothing and k: the probability within a pixel of the
            peak, relative to a perfect prediction's, the smaller of the two
            axes. ``'maximum'`` gives stock MMPose's: the smaller of the
            largest outputs, unbounded. Defaults to ``'softmax'``.
        normalize (bool): Whether a Gaussian label is a density. With False
            it is RTMPose's: a peak of 1, at the nearest bin. Defaults to
            True.
        beta (float): What the loss multiplies outputs by before their
            softmax (``KLDiscretLoss``), 10 for RTMPose. Defaults to 1.
        label_softmax (bool, optional): Whether the loss takes the softmax of
            labels, as RTMPose's does. Has to be given with
            ``normalize=False``; otherwise defaults to False.
        label_beta (float): What the loss multiplies labels by before their
            softmax. Defaults to 10.
        use_udp (bool): As ``use_udp`` of the pipelines' ``TopdownAffine``: a
            keypoint at pixel p is decoded to ``p * w / (w - 1)``, as by
            ``UDPHeatmap``, because a UDP crop ends with pixel w - 1 at the
            end of the box, where MMPose expects pixel w. Labels do not
            change. Defaults to False.
        calibration (str | Path, optional): JSON file that ``tools/calibrate.py`` made for the
            model. It replaces the other arguments of decoding and maps the scores.
        **stock: Arguments of stock's ``SimCCLabel`` that this codec does not
            have, with values that change nothing. They are accepted so that
            in a stock config only the ``type`` of the decoder has to change.

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
        delta: Union[float, Tuple[float, float]] = 0.0,
        border: str = 'clip',
        score: str = 'softmax',
        normalize: bool = True,
        beta: float = 1.0,
        label_softmax: Optional[bool] = None,
        label_beta: float = 10.0,
        use_udp: bool = False,
        calibration: Optional[PathLike] = None,
        **stock,
    ) -> None:
        super().__init__()
        _check_stock(stock)
        self.input_size = check_size('input_size', input_size)
        self.simcc_split_ratio = check_number('simcc_split_ratio', simcc_split_ratio, low=1)
        self.label_smoothing = check_choice(
            'label_smoothing', label_smoothing, ('none', 'equal', 'gaussian', 'laplace')
        )
        self.sigma = _check_pair(
            'sigma', sigma, **{**SIGMA_RANGE, 'low': MIN_SIGMA.get(label_smoothing, 0.25)}
        )
        self.smoothing = check_number('smoothing', smoothing, low=0, below=1)
        self.refine = check_choice('refine', refine, ('none', 'dark', 'daec'))
        if blur_kernel_size is not None:
            check_odd('blur_kernel_size', blur_kernel_size)
        self.blur_kernel_size = blur_kernel_size
        self.delta = _check_pair('delta', delta)
        self.border = check_choice('border', border, ('clip', 'symmetric'))
        self.score = check_choice('score', score, ('softmax', 'maximum'))
        self.normalize = check_bool('normalize', normalize)
        if not normalize and label_smoothing != 'gaussian':
            raise invalid('normalize', normalize, f"True for label_smoothing='{label_smoothing}'")
        self.beta = check_number('beta', beta, above=0)
        if label_softmax is None and not normalize:
            raise invalid(
                'label_softmax',
                None,
                "that of the head's loss where `normalize` is False, with its `beta` and "
                '`label_beta`: for RTMPose label_softmax=True, beta=10',
            )
        self.label_softmax = check_bool('label_softmax', label_softmax or False)
        self.label_beta = check_number('label_beta', label_beta, above=0)
        self.use_udp = check_bool('use_udp', use_udp)
        if use_udp and min(self.input_size) < 2:
            raise invalid('input_size', input_size, 'at least 2 pixels wide and high for UDP')
        self._set_decoded_pitch(1 / simcc_split_ratio)
        self.num_bins = tuple(round(size * simcc_split_ratio) for size in self.input_size)
        if min(self.num_bins) < 2:
            raise invalid('input_size', input_size, 'at least 2 bins wide and high')
        self.peak_radius = math.ceil(self.simcc_split_ratio)  # a pixel
        perfect = self.perfect_prediction()
        self.perfect_peak = tuple(float(p.max()) for p in perfect)
        self.perfect_mass = tuple(
            float(F.peak_mass(p, p.argmax(-1), self.peak_radius)) for p in perfect
        )
        self._calibrate(calibration)

    def encode_tensors(self, keypoints: Array, keypoints_visible: Array) -> Dict[str, Array]:
        """Labels of a batch by their names, on its device.

        Args:
            keypoints (Array): Input-image pixels, shape (..., N, K, 2).
            keypoints_visible (Array): Shape (..., N, K); below 0.5 is not
                labelled.

        Returns:
            dict:
            - keypoint_x_labels (Array): Shape (..., N, K, w * k), all zeros
              where they are not used.
            - keypoint_y_labels (Array): Shape (..., N, K, h * k).
            - keypoint_weights (Array): Shape (..., N, K): the visibility, or
              0 where the keypoint lies outside the image.
        """
        bins = keypoints * self.simcc_split_ratio
        inside = F.simcc_inside(bins, self.num_bins)
        labelled = keypoints_visible >= 0.5
        x_labels, y_labels = self._labels(bins, self.num_bins, inside & labelled)
        weights = keypoints_visible * (inside | ~labelled)
        return dict(
            keypoint_x_labels=x_labels, keypoint_y_labels=y_labels, keypoint_weights=weights
        )

    def _labels(
        self, bins: Array, num_bins: Sequence[int], drawn: Optional[Array] = None
    ) -> Tuple[Array, ...]:
        if self.label_smoothing in ('none', 'equal'):
            smoothing = self.smoothing if self.label_smoothing == 'equal' else 0.0
            return F.simcc_equal(bins, num_bins, smoothing, drawn)
        if self.label_smoothing == 'laplace':
            return F.simcc_laplace(bins, num_bins, self.sigma, drawn)
        if self.normalize:
            return F.simcc_gaussian(bins, num_bins, self.sigma, drawn)
        labels = F.simcc_gaussian(bins.round(), num_bins, self.sigma, drawn)
        return tuple(
            label * (math.sqrt(2 * math.pi) * sigma) for label, sigma in zip(labels, self.sigma)
        )

    def perfect_prediction(self) -> Tuple[np.ndarray, ...]:
        """The probabilities at which the loss has its minimum, for a keypoint on the middle bin
        of each axis.

        Returns:
            tuple[np.ndarray]: Along x and y, float64, shapes (w * k,) and (h * k,).
        """
        middle = np.array(self.num_bins, np.float64) // 2
        labels = self._labels(middle, self.num_bins)
        if self.label_softmax:
            return tuple(softmax(label * self.label_beta) for label in labels)
        return tuple(label / label.sum() for label in labels)

    def _decode(self, simcc_x: Array, simcc_y: Array) -> Tuple[Array, Array]:
        """Scores are 0 where the largest logit is not finite or all logits are equal."""
        simcc_x = check_maps('simcc_x', simcc_x, self.num_bins[:1])
        simcc_y = check_maps('simcc_y', simcc_y, self.num_bins[1:])
        if simcc_x.shape[:2] != simcc_y.shape[:2]:
            raise invalid(
                'simcc_y',
                tuple(simcc_y.shape),
                f'of the B and K of `simcc_x`, {tuple(simcc_x.shape[:2])}',
            )
        xp = namespace(simcc_x)
        x, x_scores = self._decode_axis(simcc_x, 0)
        y, y_scores = self._decode_axis(simcc_y, 1)
        return self._to_pixels(xp.stack([x, y], -1)), xp.minimum(x_scores, y_scores)

    def _decode_axis(self, logits: Array, axis: int) -> Tuple[Array, Array]:
        """Coordinates in bins and scores along one axis, of logits (B, K, bins)."""
        locs, peaks = F.vector_argmax(logits)
        sigma = self.sigma[axis]
        if self.refine != 'none' or self.score == 'softmax':
            probabilities = softmax(logits if self.beta == 1 else logits * self.beta)
        if self.refine == 'dark':
            kernel_size = self.blur_kernel_size or F.blur_kernel_size_of(sigma)
            bins = F.refine_dark_1d(probabilities, locs, kernel_size, sigma, self.border)
        elif self.refine == 'daec':
            delta = self.delta[axis]
            bins = F.decode_daec_1d(probabilities, locs, sigma, delta, border=self.border)
        else:
            bins = as_array(locs, like=logits)
        if self.score == 'softmax':
            mass = self.perfect_mass[axis]
            return bins, F.simcc_score(probabilities, locs, self.peak_radius, mass)
        return bins, namespace(peaks).where(is_finite(peaks), peaks, 0.0)
