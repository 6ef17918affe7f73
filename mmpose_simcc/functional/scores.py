# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Scores of SimCC vectors, and functions of scores."""

from .arrays import Array, as_array, namespace
from .windows import Axis, read_window


def _around(vectors: Array, locs: Array, radius: int) -> Array:
    """The entries around the peaks of M vectors, shape (2 radius + 1, M); 0 beyond their ends."""
    L, peaks = vectors.shape[-1], locs.reshape(-1)
    entries = read_window(vectors.reshape(-1, L), [peaks], radius)
    return entries * Axis(peaks, L, radius).exists


def peak_mass(vectors: Array, locs: Array, radius: int) -> Array:
    r"""The sum around the peak of every vector, :math:`\sum_{|i - m| \le r} v_i`.

    Args:
        vectors (Array): Shape (..., L).
        locs (Array): Peaks m, int64, shape (...).
        radius (int): r, how many entries on both sides count.

    Returns:
        Array: Shape (...).

    Example:
        >>> peak_mass(np.array([[1.0, 2.0, 5.0, 2.0, 1.0]]), np.array([2]), 1)
        array([9.])
    """
    return _around(vectors, locs, radius).sum(0).reshape(locs.shape)


def simcc_score(probabilities: Array, locs: Array, radius: int, perfect_mass: float) -> Array:
    r"""The score of a SimCC vector: the probability around its peak, relative to a perfect
    prediction's.

    .. math:: \min\left(1, \frac{\sum_{|i - m| \le r} p_i}{\sum_{|i - m| \le r} p^*_i}\right)

    The peak's probability alone would be small for smooth labels and for fine bins (0.1 for a
    Gaussian of sigma 4), and a logit is unbounded. This score means the same for every label
    smoothing and k. A flat vector, and one that holds NaN, scores 0.

    Args:
        probabilities (Array): p, shape (..., L).
        locs (Array): Peaks m, int64, shape (...).
        radius (int): r, the bins of one pixel.
        perfect_mass (float): The same sum of a perfect prediction p*, see :func:`peak_mass`.

    Returns:
        Array: In [0, 1], shape (...).

    Example:
        >>> half_as_good = np.array([[0.1, 0.2, 0.3, 0.2, 0.2]])
        >>> simcc_score(half_as_good, np.array([2]), 0, 0.6)
        array([0.5])
    """
    around = _around(probabilities, locs, radius)
    score = (around.sum(0) / perfect_mass).clip(None, 1)
    # A flat vector has 1 / L everywhere, but for rounding. With NaN the comparison is false.
    has_peak = around[radius] * probabilities.shape[-1] > 1 + 1e-6
    return namespace(score).where(has_peak, score, 0.0).reshape(locs.shape)


def map_scores(scores: Array, knots: Array, values: Array) -> Array:
    r"""A piecewise linear map of scores, one for each keypoint.

    .. math:: f(s) = v_0 + \sum_m (v_{m+1} - v_m)
              \min\left(1, \max\left(0, \frac{s - x_m}{x_{m+1} - x_m}\right)\right)

    It is constant outside of its knots, and where the values do not fall no score overtakes
    another of the same keypoint.

    Args:
        scores (Array): s, shape (..., K).
        knots (Array): x, rising, shape (K, M).
        values (Array): v, shape (K, M).

    Returns:
        Array: Shape (..., K).

    Example:
        >>> knots, values = np.array([[0.0, 0.2, 0.6]]), np.array([[0.0, 0.5, 0.9]])
        >>> map_scores(np.array([[0.1], [0.4], [1.3]]), knots, values).round(6)
        array([[0.25],
               [0.7 ],
               [0.9 ]])
    """
    part = (scores[..., None] - knots[:, :-1]) / (knots[:, 1:] - knots[:, :-1])
    return values[:, 0] + (part.clip(0, 1) * (values[:, 1:] - values[:, :-1])).sum(-1)


def step_values(scores: Array, edges: Array, values: Array) -> Array:
    r"""A function of the score that is constant between edges, one for each keypoint:
    :math:`v_j` for :math:`e_j \le s < e_{j+1}`.

    Args:
        scores (Array): s, shape (..., K).
        edges (Array): e, rising, shape (K, M - 1).
        values (Array): v, of L functions of the same edges, shape (K, M, L).

    Returns:
        Array: Shape (..., K, L). NaN counts as below the first edge.

    Example:
        >>> edges, values = np.array([[0.5]]), np.array([[[4.0, 9.0], [1.0, 3.0]]])
        >>> step_values(np.array([[0.3], [0.5]]), edges, values)
        array([[[4., 9.]],
        <BLANKLINE>
               [[1., 3.]]])
    """
    if edges.shape[-1] == 0:  # some versions of onnxruntime give an empty sum a wrong shape
        return values[:, 0] + 0 * as_array(scores[..., None] >= 0, like=values)
    reached = as_array(scores[..., None] >= edges, like=values)
    return values[:, 0] + (reached[..., None] * (values[:, 1:] - values[:, :-1])).sum(-2)
