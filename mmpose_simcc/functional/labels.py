# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Labels: keypoint coordinates to heatmaps and to SimCC vectors.

Pure functions, batched over every leading dimension, of torch tensors on
their own device or of numpy arrays; what goes in comes out. Heatmap
coordinates are in cells (cell ``i`` lies at pixel ``i * stride``), SimCC
coordinates in bins (pixel ``x`` lies at bin ``x * k``).
"""
import math
from functools import lru_cache
from typing import Tuple

import numpy as np

from .arrays import (
    Array,
    arange,
    as_array,
    as_index,
    crops,
    exp_,
    is_double,
    namespace,
)

# Labels end here, at 2e-18 of their peak. Further out float32 holds subnormal
# numbers, which cost a processor a hundred times as much as others.
REACH = 9  # sigma


def _offsets(centers: Array, size: int) -> Array:
    """Distances of ``size`` positions from each centre, shape (..., size)."""
    return as_array(arange(0, size, centers), centers) - centers[..., None]


def heatmap_in_reach(keypoints: Array, heatmap_size: Tuple[int, int],
                     sigma: float, unbiased: bool) -> Array:
    """Which keypoints have a Gaussian that reaches into the heatmap.

    The window of 3 sigma around the centre has to touch the map, by the same
    rule as MMPose's ``MSRAHeatmap``.

    Args:
        keypoints (Array): Coordinates in heatmap cells, shape (..., 2).
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.
        unbiased (bool): Whether the centre is kept or rounded to a cell.

    Returns:
        Array: Bool, shape (...). False for NaN coordinates.
    """
    centers = keypoints if unbiased else round_to_cell(keypoints)
    radius = 3 * sigma
    size = as_array(heatmap_size, like=centers)
    touches = (centers < size + radius) & (centers >= -radius - 1)
    return touches[..., 0] & touches[..., 1]


def round_to_cell(keypoints: Array) -> Array:
    """The nearest cell: the biased centre (DARK, Section 3.2, Eq. 13).

    Like MMPose, a coordinate in (-1.5, -0.5) cells goes to cell 0.
    """
    return namespace(keypoints).trunc(keypoints + 0.5)


def gaussian_heatmaps(keypoints: Array,
                      heatmap_size: Tuple[int, int],
                      sigma: float,
                      unbiased: bool = True) -> Array:
    r"""Gaussian heatmaps with a peak of 1 (DARK, Section 3.2, Eq. 14).

    .. math::
        G(x, y) = \exp\left(-\frac{(x-u)^2 + (y-v)^2}{2\sigma^2}\right)

    Args:
        keypoints (Array): Coordinates (u, v) in heatmap cells, shape
            (..., 2), finite. Far off the map the heatmap is 0.
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.
        unbiased (bool): Keep the sub-cell centre (DARK's unbiased encoding)
            and the whole Gaussian. Otherwise the centre is rounded to a cell
            and the Gaussian is cut at 3 sigma, as the standard (biased)
            encoding does.

    Returns:
        Array: Heatmaps in [0, 1], shape (..., H, W).

    Example:
        >>> gaussian_heatmaps(torch.tensor([[2., 1.]]), (5, 4), 1.0).shape
        torch.Size([1, 4, 5])
    """
    if not unbiased:
        return _biased_heatmaps(keypoints, heatmap_size, sigma)
    # exp(a + b) = exp(a) exp(b): W + H exponentials a keypoint, not W * H
    W, H = heatmap_size
    lines = _gaussian_lines(_offsets(keypoints, max(W, H)), sigma, REACH)
    gx, gy = lines[..., 0, :W], lines[..., 1, :H]
    if namespace(lines) is np:
        # half again as fast as numpy's product of both
        return np.einsum('...h,...w->...hw', gy, gx)
    return gy[..., None] * gx[..., None, :]


def _gaussian_lines(offsets: Array, sigma: float, reach: float) -> Array:
    """exp(-d^2 / (2 sigma^2)) of offsets d up to ``reach`` sigma, else 0."""
    squares = offsets * offsets
    limit = (reach * sigma)**2
    values = exp_(squares * (-0.5 / sigma**2))
    return values * (squares <= limit)


@lru_cache(maxsize=16)
def _large_heatmap(center: int, sigma: float, dtype: str) -> np.ndarray:
    """A biased Gaussian in the middle of a square map of 2 center + 1 cells,
    of which every biased heatmap is a part."""
    line = _gaussian_lines(np.arange(-center, center + 1.), sigma, reach=3)
    return np.outer(line, line).astype(dtype)


def _biased_heatmaps(keypoints: Array, heatmap_size: Tuple[int, int],
                     sigma: float) -> Array:
    """:func:`gaussian_heatmaps` with rounded centres: nothing is computed,
    only copied."""
    W, H = heatmap_size
    reach = int(3 * sigma)
    size = max(W, H) + reach  # a centre here, or at -reach - 1, is not seen
    dtype = 'float64' if is_double(keypoints) else 'float32'
    large = as_array(_large_heatmap(size, sigma, dtype), like=keypoints)
    pitch = 2 * size + 1
    centers = as_index(round_to_cell(keypoints).clip(-reach - 1, size))
    start = size * (pitch + 1) - pitch * centers[..., 1] - centers[..., 0]
    return crops(large.reshape(-1), start, H, W, pitch)


def simcc_inside(coords: Array, num_bins: int) -> Array:
    """Which coordinates lie in the image and have a bin.

    Args:
        coords (Array): Coordinates in bins, any shape.
        num_bins (int): Number of bins of the axis.

    Returns:
        Array: Bool, same shape: not negative, and nearest to one of the
        ``num_bins`` bins. False for NaN.
    """
    return (coords >= 0) & (coords < num_bins - 0.5)


def simcc_one_hot(coords: Array, num_bins: int) -> Array:
    """One at the nearest bin (SimCC, Section 3, without label smoothing).

    Args:
        coords (Array): Coordinates in bins, shape (...), inside the axis.
        num_bins (int): Number of bins of the axis.

    Returns:
        Array: Labels that sum to 1, shape (..., num_bins).
    """
    return simcc_equal(coords, num_bins, smoothing=0.)


def simcc_equal(coords: Array, num_bins: int, smoothing: float) -> Array:
    """Equal label smoothing (SimCC, Section 3 "Label smoothing").

    ``1 - smoothing`` at the nearest bin and ``smoothing / (num_bins - 1)`` at
    every other.

    Args:
        coords (Array): Coordinates in bins, shape (...), inside the axis.
        num_bins (int): Number of bins of the axis, at least 2.
        smoothing (float): The part given to the other bins, in [0, 1).

    Returns:
        Array: Labels that sum to 1, shape (..., num_bins).
    """
    xp = namespace(coords)
    nearest = _offsets(coords.round(), num_bins) == 0
    return as_array(
        xp.where(nearest, 1. - smoothing, smoothing / (num_bins - 1)), coords)


def simcc_gaussian(coords: Array, num_bins: int, sigma: float) -> Array:
    r"""Gaussian label smoothing (SimCC, Section 3 "Label smoothing").

    The density of :math:`\mathcal{N}(c, \sigma)` at every bin; the centre is
    not rounded. Sums to 1 but for what lies outside the axis.

    Args:
        coords (Array): Coordinates c in bins, shape (...).
        num_bins (int): Number of bins of the axis.
        sigma (float): Standard deviation in bins.

    Returns:
        Array: Labels, shape (..., num_bins).
    """
    # in place: a label stays in the processor's first-level cache
    values = _offsets(coords, num_bins)
    values *= values
    values *= -0.5 / sigma**2
    values = exp_(values)
    values *= 1 / (sigma * math.sqrt(2 * math.pi))
    return values


def simcc_laplace(coords: Array, num_bins: int, sigma: float) -> Array:
    r"""Laplace label smoothing (SimCC, Section 3 "Label smoothing").

    The density :math:`\exp(-|x-c|/b) / (2b)` at every bin, with b = sigma.

    Args:
        coords (Array): Coordinates c in bins, shape (...).
        num_bins (int): Number of bins of the axis.
        sigma (float): Scale b in bins.

    Returns:
        Array: Labels, shape (..., num_bins).
    """
    values = abs(_offsets(coords, num_bins))
    values *= -1 / sigma
    values = exp_(values)
    values *= 0.5 / sigma
    return values
