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
    x, y = centers[..., 0], centers[..., 1]
    W, H = heatmap_size
    radius = 3 * sigma
    return ((x - radius < W) & (x + radius + 1 >= 0)
            & (y - radius < H) & (y + radius + 1 >= 0))


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
    gx, gy = (
        _peak_of_one(_offsets(keypoints[..., axis], size), sigma, REACH)
        for axis, size in enumerate(heatmap_size))
    if namespace(gx) is np:
        # half again as fast as numpy's product of both; torch has its own
        return np.einsum('...h,...w->...hw', gy, gx)
    return gy[..., None] * gx[..., None, :]


def _peak_of_one(offsets: Array, sigma: float, reach: float) -> Array:
    """exp(-d^2 / (2 sigma^2)) of offsets d up to ``reach`` sigma, else 0."""
    squares = offsets * offsets
    limit = (reach * sigma)**2
    values = namespace(offsets).exp(squares.clip(None, limit) *
                                    (-0.5 / sigma**2))
    return values * (squares <= limit)


@lru_cache(maxsize=16)
def _large_heatmap(u: int, v: int, sigma: float, dtype: str) -> np.ndarray:
    """A biased Gaussian around column u and row v of a map of 2u + 1 columns
    and 2v + 1 rows, of which every biased heatmap is a part."""
    gx, gy = (
        _peak_of_one(np.arange(-center, center + 1.), sigma, reach=3)
        for center in (u, v))
    return np.outer(gy, gx).astype(dtype)


def _biased_heatmaps(keypoints: Array, heatmap_size: Tuple[int, int],
                     sigma: float) -> Array:
    """:func:`gaussian_heatmaps` with rounded centres: nothing is computed,
    only copied."""
    W, H = heatmap_size
    # the centre that is one column, or row, too far off the map to be seen
    u, v = W + int(3 * sigma), H + int(3 * sigma)
    centers = as_index(round_to_cell(keypoints))
    left = (u - centers[..., 0]).clip(0, 2 * u + 1 - W)
    top = (v - centers[..., 1]).clip(0, 2 * v + 1 - H)
    dtype = 'float64' if is_double(keypoints) else 'float32'
    cells = as_array(_large_heatmap(u, v, sigma, dtype), like=keypoints)
    pitch = 2 * u + 1
    return crops(cells.reshape(-1), top * pitch + left, H, W, pitch)


def simcc_inside(coords: Array, num_bins: int) -> Array:
    """Which coordinates lie in the image and have a bin.

    Args:
        coords (Array): Coordinates in bins, any shape.
        num_bins (int): Number of bins of the axis.

    Returns:
        Array: Bool, same shape: not negative, and the nearest bin is one of
        ``num_bins``. False for NaN.
    """
    return (coords >= 0) & (
        namespace(coords).round(coords) <= num_bins - 1)


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
    nearest = _offsets(xp.round(coords), num_bins) == 0
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
    offsets = _offsets(coords, num_bins)
    density = exp(offsets * offsets * (-0.5 / sigma**2))
    density *= 1 / (sigma * math.sqrt(2 * math.pi))
    return density


def exp(exponents: Array) -> Array:
    """exp(max(e, -80)), which float32 holds as a normal number, see
    ``REACH``."""
    return namespace(exponents).exp(exponents.clip(-80, None))


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
    distances = abs(_offsets(coords, num_bins))
    density = exp(distances * (-1 / sigma))
    density *= 0.5 / sigma
    return density
