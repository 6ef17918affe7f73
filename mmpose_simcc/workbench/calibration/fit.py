# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What scores are worth, and how far off keypoints may be: functions of scores, fitted."""

from typing import List, Tuple

import numpy as np
from scipy.optimize import isotonic_regression

from ...codecs.calibration import LEVELS
from ..reliability import bin_sums, equal_mass_bins

MAX_POINTS = 31  # of a map
SAMPLES = 40  # keypoints to a point of a map
FEWEST = 100  # keypoints of one kind that have a function of their own, or an interval of scores
MAX_INTERVALS = 10


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
        of_each (bool): Whether keypoints have maps of their own; those with less than 100 samples
            share one of all keypoints, as do all without it.

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
    2018, Section 2.2): the probability lies between p and :math:`p + 1 / (n + 1)`.

    Args:
        distances (np.ndarray): Shape (N,); at least p / (1 - p) of them.
        level (float): p.

    Example:
        >>> conformal_quantile(np.arange(1, 20), 0.9)  # the 18th of 19
        18.0
    """
    rank = int(np.ceil(round((len(distances) + 1) * level, 9)))
    return float(np.sort(distances)[min(rank, len(distances)) - 1])


def _edges(scores: np.ndarray) -> np.ndarray:
    """Scores that divide the others into intervals of equal mass, each of at least
    :data:`FEWEST`; equal scores are not divided."""
    number = int(min(MAX_INTERVALS, max(1, len(scores) // FEWEST)))
    ordered = np.sort(scores.astype(np.float32))  # as codecs have them
    places = len(ordered) * np.arange(1, number) // number
    starts = np.searchsorted(ordered, ordered[places])  # where a value begins
    starts = np.unique(starts[starts >= FEWEST])
    starts = starts[len(ordered) - starts >= FEWEST]
    return ordered[starts].astype(float)


def _radius(
    scores: np.ndarray, distances: np.ndarray, by_score: bool
) -> Tuple[List[float], List[List[float]]]:
    """Edges and radii of one keypoint, or of all."""
    edges = _edges(scores) if by_score else np.zeros(0)
    interval = np.searchsorted(edges, scores.astype(np.float32), side='right')
    return edges.tolist(), [
        [round(conformal_quantile(distances[interval == i], level), 4) for level in LEVELS]
        for i in range(len(edges) + 1)
    ]


def fit_radii(scores: np.ndarray, distances: np.ndarray, of_each: bool, by_score: bool) -> dict:
    """For each keypoint the radii of :data:`LEVELS` as a function of its score, constant in
    intervals of at least 100 keypoints: split-conformal quantiles in each (Vovk, Conditional
    Validity of Inductive Conformal Predictors, 2012).

    Args:
        scores (np.ndarray): Shape (N, K).
        distances (np.ndarray): From the truth, NaN where there is none, shape (N, K).
        of_each (bool): Whether keypoints have radii of their own; those with less than 100
            samples share those of all keypoints, as do all without it.
        by_score (bool): Whether the score counts.

    Returns:
        dict: ``edges`` and ``pixels`` of :class:`~mmpose_simcc.codecs.calibration.Radii`.
    """
    known = ~np.isnan(distances)
    common = _radius(scores[known], distances[known], by_score)
    found = [
        _radius(scores[own, k], distances[own, k], by_score)
        if of_each and own.sum() >= FEWEST
        else common
        for k, own in enumerate(known.T)
    ]
    return dict(edges=[edges for edges, _ in found], pixels=[pixels for _, pixels in found])
