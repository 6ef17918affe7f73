# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Fits functions of the score: what it is worth, and how far off its keypoint may be."""

from typing import List, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from ...codecs.calibration import LEVELS
from ..reliability import bin_sums, equal_mass_bins

MAX_POINTS = 31  # of a map
SAMPLES = 40  # keypoints for each point of a map
FEWEST = 100  # samples for a keypoint's own map, or for an interval of scores
FEWEST_OF_KEYPOINT = 49  # samples for a keypoint's own radii: the guarantee is 1 / (49 + 1) wide
MAX_INTERVALS = 10
ROUNDS = 4  # of fitting factors of keypoints and sizes by score in turns; more change nothing
SMALLEST = 1e-3  # pixels, since distances may be 0


def fit_map(scores: np.ndarray, similarity: np.ndarray) -> List[List[float]]:
    """Isotonic regression of the similarity on the score, over bins of equal mass.

    Args:
        scores (np.ndarray): Shape (N,).
        similarity (np.ndarray): In [0, 1], shape (N,).

    Returns:
        list: At most 32 points (score, value), between which the map is linear. A score of 0,
        which codecs give where there is no peak, stays 0.
    """
    bins = min(MAX_POINTS, max(1, len(scores) // SAMPLES))
    sums = bin_sums(equal_mass_bins(scores, bins), bins, scores, similarity)
    count, score_sums, similarity_sums = sums[:, sums[0] > 0]
    # bins with the same mean score become one
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
        of_each (bool): Whether keypoints get maps of their own. Those with fewer than 100 samples
            get the map of all keypoints together.

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
    r"""The smallest of n distances that a new one does not exceed with at least a probability p.

    If the new distance is exchangeable with the others, this is the
    :math:`\lceil (n + 1) p \rceil`-th smallest (Vovk, Gammerman and Shafer, Algorithmic Learning
    in a Random World, 2005; Lei et al., Distribution-Free Predictive Inference for Regression,
    2018, Section 2.2). The probability is then at least p and, if no two distances are equal, at
    most :math:`p + 1 / (n + 1)`.

    Args:
        distances (np.ndarray): Shape (N,).
        level (float): p.

    Raises:
        ValueError: There are fewer than p / (1 - p) distances, so that none is large enough.

    Example:
        >>> conformal_quantile(np.arange(1, 20), 0.9)  # the 18th of 19
        18.0
    """
    rank = int(np.ceil(round((len(distances) + 1) * level, 9)))
    if rank > len(distances):
        raise ValueError(f'a radius for {level:g} needs more than {len(distances)} keypoints')
    return float(np.sort(distances)[rank - 1])


def _edges(scores: np.ndarray) -> np.ndarray:
    """The scores at which new intervals begin. The intervals hold about equally many scores, at
    least :data:`FEWEST`, and equal scores share one."""
    number = int(min(MAX_INTERVALS, max(1, len(scores) // FEWEST)))
    ordered = np.sort(scores.astype(np.float32))  # the precision of codecs
    places = len(ordered) * np.arange(1, number) // number
    starts = np.searchsorted(ordered, ordered[places])  # where a value begins
    starts = np.unique(starts[starts >= FEWEST])
    starts = starts[len(ordered) - starts >= FEWEST]
    return ordered[starts].astype(float)


def _intervals(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The interval of each score."""
    return np.searchsorted(edges, scores.astype(np.float32), side='right')


class Scale(NamedTuple):
    """How the distance from the truth depends on the score, for all keypoints alike.

    Attributes:
        edges (np.ndarray): Scores at which a new interval begins, shape (M - 1,).
        sizes (np.ndarray): How large distances in each interval are, at each of :data:`LEVELS`,
            shape (M, 2).
    """

    edges: np.ndarray
    sizes: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Sizes (..., 2) at scores (...)."""
        return self.sizes[_intervals(scores, self.edges)]


def fit_scale(scores: np.ndarray, distances: np.ndarray) -> Scale:
    r"""Model the quantiles of distances d as a factor of the keypoint times a size that depends on
    the score, :math:`a_k \rho(s)`. Both are fitted in turns: :math:`a_k` as the quantile of
    :math:`d / \rho(s)` for each keypoint, :math:`\rho` as that of :math:`d / a_k` in each interval
    of scores.

    Args:
        scores (np.ndarray): Shape (N, K).
        distances (np.ndarray): From the truth, NaN where there is none, shape (N, K).

    Returns:
        Scale: The size. :func:`fit_radii` finds the factors anew, on other pictures.
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
    r"""The radii of each keypoint as functions of its score: the size by ``scale`` times the
    conformal quantile of :math:`d / \rho(s)` of this keypoint (Mondrian conformal prediction;
    Vovk, Conditional Validity of Inductive Conformal Predictors, 2012).

    If ``scale`` was fitted on other pictures, a new keypoint k lies within its radius with a
    probability between p and p + 1 / (n + 1), where n is the number of keypoints k here. If it is
    below 49, and the guarantee thus wider than 2 points, the quantile is that of all keypoints.

    Args:
        scale (Scale): By :func:`fit_scale`.
        scores (np.ndarray): Shape (N, K).
        distances (np.ndarray): From the truth, NaN where there is none, shape (N, K).

    Returns:
        dict: ``edges`` and ``pixels`` for :class:`~mmpose_simcc.codecs.calibration.Radii`.

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
    pixels = np.maximum.accumulate(pixels, -1)  # since each level has a scale of its own
    return dict(edges=[scale.edges.tolist()] * len(factors), pixels=pixels.tolist())
