# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Whether scores mean what they say.

A keypoint has a score and a similarity to the truth: its OKS, or 1 where it is not off by more
than t and else 0. It is right where the similarity is at least :data:`RIGHT`. All functions take
the scores and similarities of N keypoints.
"""

from typing import Dict, NamedTuple, Tuple

import numpy as np

BINS = 15
RIGHT = 0.5  # COCO's lowest OKS of a match


def with_truth(
    scores: np.ndarray, similarity: np.ndarray
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The keypoints that have a truth.

    Args:
        scores (np.ndarray): Any shape.
        similarity (np.ndarray): The same shape; NaN where there is no truth.

    Returns:
        tuple: Their scores and similarities, float64, shape (N,), and a mask of the shape of the
        scores that says which they are.
    """
    known = ~np.isnan(similarity)
    return scores[known].astype(float), similarity[known].astype(float), known


def equal_mass_bins(scores: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Bins by rising score that hold about equally many keypoints. Equal scores share a bin, which
    makes some bins larger or empty, so that the order of the keypoints does not matter.

    Args:
        scores (np.ndarray): Shape (N,).
        bins (int): Their number.

    Returns:
        np.ndarray: The bin of each keypoint, shape (N,).

    Example:
        >>> equal_mass_bins(np.array([0.1, 0.9, 0.5, 0.9]), 2)
        array([0, 1, 0, 1])
    """
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - count / 2
    return (middle * bins // max(len(scores), 1)).astype(int)[place]


def bin_sums(index: np.ndarray, bins: int, *values: np.ndarray) -> np.ndarray:
    """Counts, and sums of values, in each bin: shape (1 + values, bins)."""
    return np.stack([np.bincount(index, value, bins) for value in (None, *values)])


def calibration_error(scores: np.ndarray, similarity: np.ndarray) -> float:
    r"""Expected calibration error over 15 bins of equal mass (Nguyen and O'Connor, 2015; Gu et
    al., On the Calibration of Human Pose Estimation, 2024).

    .. math:: \sum_b |g_b|, \quad g_b = \frac{n_b}{N} (\bar s_b - \bar o_b)

    with the mean score and the mean similarity of a bin's keypoints.

    Args:
        scores (np.ndarray): Shape (N,).
        similarity (np.ndarray): In [0, 1], shape (N,).

    Returns:
        float: In [0, 1] for scores in [0, 1].

    Example:
        >>> calibration_error(np.array([0.9, 0.9, 0.9]), np.array([1.0, 1.0, 0.4]))
        0.1...
    """
    _, gap = bin_sums(equal_mass_bins(scores), BINS, scores - similarity)
    return float(np.abs(gap).sum() / len(scores))


def calibration_noise(
    scores: np.ndarray, similarity: np.ndarray, image_of: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    r"""How far the calibration error of other images may be from that of these.

    Noise makes gaps of either sign, whose sizes add up: of a perfectly calibrated model the error
    is above 0, and that of resampled images above it once more. What does not grow so is the
    distance of the gaps, of which the error is the norm: by the triangle inequality

    .. math:: \left| \sum_b |g_b| - \sum_b |g_b^*| \right| \le \sum_b |g_b - g_b^*|

    Args:
        scores (np.ndarray): Shape (N,).
        similarity (np.ndarray): In [0, 1], shape (N,).
        image_of (np.ndarray): The index of each keypoint's image, shape (N,).
        weights (np.ndarray): How often each image is drawn, shape (R, I).

    Returns:
        np.ndarray: The right-hand side for each resample, shape (R,).
    """
    cells = image_of * BINS + equal_mass_bins(scores)
    count, gap = bin_sums(cells, weights.shape[1] * BINS, scores - similarity).reshape(2, -1, BINS)
    drawn = (weights @ gap) / (weights @ count.sum(1))[:, None]
    return np.abs(drawn - gap.sum(0) / len(scores)).sum(1)


class Ranking(NamedTuple):
    """Keypoints by their score.

    Attributes:
        place (np.ndarray): Of each keypoint's score among the different ones, rising, shape (N,).
        right (np.ndarray): Whether it is right, shape (N,).
    """

    place: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, similarity: np.ndarray) -> 'Ranking':
        return cls(np.unique(scores, return_inverse=True)[1], similarity >= RIGHT)

    def auroc(self, weights: np.ndarray) -> float:
        """The chance that the score of a right keypoint is above that of a wrong one; equal ones
        count half.

        Args:
            weights (np.ndarray): How often each keypoint counts, shape (N,).

        Returns:
            float: NaN where all are right, or none.
        """
        right = np.bincount(self.place, weights * self.right)
        wrong = np.bincount(self.place, weights * ~self.right)
        below = np.cumsum(wrong) - wrong / 2
        with np.errstate(invalid='ignore'):
            return float((right * below).sum() / (right.sum() * wrong.sum()))


def reliability(scores: np.ndarray, similarity: np.ndarray) -> Dict[str, float]:
    """How far scores can be trusted, by the names that tables show.

    Args:
        scores (np.ndarray): Any shape.
        similarity (np.ndarray): The same shape; NaN where there is no truth.

    Returns:
        dict: ``ECE`` (see :func:`calibration_error`), and ``AUROC`` of telling the keypoints that
        are off (see :meth:`Ranking.auroc`) where some are right and some are off. Empty without
        truth.
    """
    scores, similarity, _ = with_truth(scores, similarity)
    if not len(scores):
        return {}
    found = dict(ECE=calibration_error(scores, similarity))
    auroc = Ranking.of(scores, similarity).auroc(np.ones(len(scores)))
    return found if np.isnan(auroc) else dict(found, AUROC=auroc)


def kept(scores: np.ndarray, similarity: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a threshold does.

    Returns:
        tuple: Thresholds, rising; the share of keypoints whose score is not below; the share of
        these that are right. Shape (thresholds,) each.
    """
    thresholds, place = np.unique(scores, return_inverse=True)
    count, right = bin_sums(place, len(thresholds), similarity >= RIGHT)
    left, left_right = (np.cumsum(values[::-1])[::-1] for values in (count, right))
    return thresholds, left / len(scores), left_right / left
