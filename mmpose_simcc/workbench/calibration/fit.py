# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Fits what scores are worth, and how far off keypoints may be: functions of scores."""

from typing import List, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from ...codecs.calibration import LEVELS
from ..reliability import bin_sums, equal_mass_bins

MAX_POINTS = 31  # of a map
SAMPLES = 40  # keypoints to a point of a map
FEWEST = 100  # samples for a map of a keypoint, or for an interval of scores
FEWEST_OF_KEYPOINT = 49  # samples for radii of a keypoint: the guarantee is 1 / (49 + 1) wide
MAX_INTERVALS = 10
ROUNDS = 4  # in which factors of keypoints and sizes by score are fitted in turns; more add nothing
SMALLEST = 1e-3  # pixels; distances may be 0


def fit_map(scores: np.ndarray, similarity: np.ndarray) -> List[List[float]]:
    """Isotonic regression of the similarity on the score, over bins of equal mass.

    Args:
        scores (np.ndarray): Shape (N,).
        similarity (np.ndarray): In [0, 1], shape (N,).

    Returns:
        list: At most 32 points (score, value), between which the map is linear. A score of 0,
        by which a codec says that there is no peak, stays 0.
    """
    bins = min(MAX_POINTS, max(1, len(scores) // SAMPLES))
    sums = bin_sums(equal_mass_bins(scores, bins), bins, scores, similarity)
    count, score_sums, similarity_sums = sums[:, sums[0] > 0]
    # bins of one score, such as the highest, are one
    knots, place = np.unique((score_sums / count).round(5), return_inverse=True)
    weights = np.bincount(place, count)
    means = np.bincount(place, similarity_sums) / weights
    values = isotonic_regression(means, weights=weights).x.clip(0, 1).round(5)
    points = np.stack([knots, values], 1).tolist()
    return [[0.0, 0.0], *points] if knots[0] > 0 else points


def fit_maps(scores: np.ndarray, similarity: np.ndarray, of_each: bool = True) -> List[list]:
    """A map for each keypoint.

    Args:
        scores (np.ndarray): Shape (N, K).
        similarity (np.ndarray): Shape (N, K), NaN where there is no truth.
        of_each (bool): Whether keypoints have maps of their own. Those with less than 100 samples
            get the map that is fitted on all keypoints.

    Returns:
        list: K maps, see :func:`fit_map`.
    """
    known = ~np.isnan(similarity)
    common = fit_map(scores[known], similarity[known])
    return [
        fit_map(scores[own, k], similarity[own, k]) if of_each and own.sum() >= FEWEST else common
        for k, own in enumerate(known.T)
    ]


def conformal_quantile(distances: np.ndarray, level: float) -> float:
    r"""The smallest distance below which a new one lies with at least a probability.

    Of n distances that are exchangeable with the new one it is the
    :math:`\lceil (n + 1) p \rceil`-th smallest (Vovk, Gammerman and Shafer, Algorithmic Learning
    in a Random World, 2005; Lei et al., Distribution-Free Predictive Inference for Regression,
    2018, Section 2.2): the probability lies between p and, where no two distances are equal,
    :math:`p + 1 / (n + 1)`.

    Args:
        distances (np.ndarray): Shape (N,).
        level (float): p.

    Raises:
        ValueError: There are fewer than p / (1 - p) distances, of which none is large enough.

    Example:
        >>> conformal_quantile(np.arange(1, 20), 0.9)  # the 18th of 19
        18.0
    """
    rank = int(np.ceil(round((len(distances) + 1) * level, 9)))
    if rank > len(distances):
        raise ValueError(f'a radius for {level:g} needs more than {len(distances)} keypoints')
    return float(np.sort(distances)[rank - 1])


def _edges(scores: np.ndarray) -> np.ndarray:
    """The scores at which new intervals begin. All intervals hold about equally many scores, at
    least :data:`FEWEST`; equal scores are not divided."""
    number = int(min(MAX_INTERVALS, max(1, len(scores) // FEWEST)))
    ordered = np.sort(scores.astype(np.float32))  # as codecs have them
    places = len(ordered) * np.arange(1, number) // number
    starts = np.searchsorted(ordered, ordered[places])  # where a value begins
    starts = np.unique(starts[starts >= FEWEST])
    starts = starts[len(ordered) - starts >= FEWEST]
    return ordered[starts].astype(float)


def _intervals(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The interval of each score."""
    return np.searchsorted(edges, scores.astype(np.float32), side='right')


class Scale(NamedTuple):
    """How the distance from the truth depends on the score, whichever keypoint it is.

    Attributes:
        edges (np.ndarray): Scores at which a new interval begins, shape (M - 1,).
        sizes (np.ndarray): The size of distances in each interval at each of :data:`LEVELS`,
            shape (M, 2).
    """

    edges: np.ndarray
    sizes: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Sizes (..., 2) at scores (...)."""
        return self.sizes[_intervals(scores, self.edges)]


def fit_scale(scores: np.ndarray, distances: np.ndarray) -> Scale:
    r"""Model the quantiles of distances as a factor of the keypoint times a size that depends on
    the score, :math:`a_k \rho(s)`, and fit them in turns: the quantile of
    :math:`d / \rho(s)` of each keypoint, and of :math:`d / a_k` in each interval of scores.

    Args:
        scores (np.ndarray): Shape (N, K).
        distances (np.ndarray): From the truth, NaN where there is none, shape (N, K).

    Returns:
        Scale: The size. The factors are found anew, by :func:`fit_radii` on other pictures.
    """
    known = ~np.isnan(distances)
    edges = _edges(scores[known])
    interval = np.where(known, _intervals(scores, edges), -1)
    columns = []
    for level in LEVELS:
        factors = np.ones(distances.shape[1])
        for _ in range(ROUNDS):
            relative = distances / factors
            sizes = np.array(
                [np.quantile(relative[interval == i], level) for i in range(len(edges) + 1)]
            ).clip(SMALLEST)
            relative = distances / sizes[interval]
            for k in np.flatnonzero(known.sum(0) >= FEWEST):
                factors[k] = max(np.nanquantile(relative[:, k], level), SMALLEST)
        columns.append(sizes)
    return Scale(edges, np.stack(columns, 1))


def fit_radii(scale: Scale, scores: np.ndarray, distances: np.ndarray) -> dict:
    r"""For each keypoint the radii of :data:`LEVELS` as a function of its score: the size by
    ``scale`` times the conformal quantile of :math:`d / \rho(s)` of this keypoint
    (Mondrian conformal prediction; Vovk, Conditional Validity of Inductive Conformal Predictors,
    2012).

    Where ``scale`` was fitted on other pictures, a new keypoint k lies within its radius with a
    probability between p and p + 1 / (n + 1), n the number of keypoints k here. Those with fewer
    than 49, for which this would be wider than 2 points, share the quantile of all keypoints.

    Args:
        scale (Scale): By :func:`fit_scale`.
        scores (np.ndarray): Shape (N, K).
        distances (np.ndarray): From the truth, NaN where there is none, shape (N, K).

    Returns:
        dict: ``edges`` and ``pixels`` of :class:`~mmpose_simcc.codecs.calibration.Radii`.

    Raises:
        ValueError: There are fewer than 9 keypoints.
    """
    known = ~np.isnan(distances)
    relative = distances[..., None] / scale(scores)  # (N, K, 2)

    def quantiles(values: np.ndarray) -> List[float]:
        return [conformal_quantile(column, level) for column, level in zip(values.T, LEVELS)]

    common = quantiles(relative[known])
    factors = np.array(
        [
            quantiles(relative[own, k]) if own.sum() >= FEWEST_OF_KEYPOINT else common
            for k, own in enumerate(known.T)
        ]
    )
    pixels = np.ceil(factors[:, None] * scale.sizes * 1e4) / 1e4
    pixels = np.maximum.accumulate(pixels, -1)  # both levels have a scale of their own
    return dict(edges=[scale.edges.tolist()] * len(factors), pixels=pixels.tolist())
