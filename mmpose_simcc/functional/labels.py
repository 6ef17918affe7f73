# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Labels: keypoint coordinates to heatmaps and to SimCC vectors.

Pure functions, batched over every leading dimension, of torch tensors on
their own device or of numpy arrays; what goes in comes out. Heatmap
coordinates are in cells (cell ``i`` lies at pixel ``i * stride``), SimCC
coordinates in bins (pixel ``x`` lies at bin ``x * k``). NaN coordinates give
labels of zeros.
"""
import math
from functools import lru_cache
from typing import Sequence, Tuple, Union

import numpy as np

from .arrays import (
    Array,
    arange,
    as_array,
    crops,
    exp_,
    look_up,
    namespace,
    place,
    precision,
    whole,
)

# A Gaussian is cut here, at 2e-18 of its peak: further out float32 holds
# subnormal numbers, which cost a processor a hundred times as much as others.
REACH = 9  # sigma


def _offsets(centers: Array, size: int) -> Array:
    """Distances of ``size`` positions from each centre, shape (..., size)."""
    return as_array(arange(0, size, centers), centers) - centers[..., None]


def round_to_cell(keypoints: Array) -> Array:
    """The nearest cell: the biased centre (DARK, Section 3.2, Eq. 13).

    Like MMPose, a coordinate in (-1.5, -0.5) cells goes to cell 0.
    """
    return namespace(keypoints).trunc(keypoints + 0.5)


def heatmap_in_reach(centers: Array, heatmap_size: Tuple[int, int],
                     sigma: float) -> Array:
    """Which centres have a Gaussian that reaches into the heatmap.

    The window of 3 sigma around the centre has to touch the map, by the same
    rule as MMPose's ``MSRAHeatmap``.

    Args:
        centers (Array): In heatmap cells, shape (..., 2): keypoints, or for
            biased labels their nearest cells.
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.

    Returns:
        Array: Bool, shape (...). False for NaN coordinates.
    """
    W, H = heatmap_size
    radius = 3 * sigma
    limits = as_array((W + radius, H + radius), like=centers)
    touches = (centers < limits) & (centers >= -radius - 1)
    return touches[..., 0] & touches[..., 1]


def gaussian_heatmaps(keypoints: Array,
                      heatmap_size: Tuple[int, int],
                      sigma: float,
                      unbiased: bool = True) -> Tuple[Array, Array]:
    r"""Gaussian heatmaps with a peak of 1 (DARK, Section 3.2, Eq. 14).

    .. math::
        G(x, y) = \exp\left(-\frac{(x-u)^2 + (y-v)^2}{2\sigma^2}\right)

    Args:
        keypoints (Array): Coordinates (u, v) in heatmap cells, shape
            (..., 2).
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.
        unbiased (bool): Keep the sub-cell centre (DARK's unbiased encoding)
            and the whole Gaussian. Otherwise the centre is rounded to a cell
            and the Gaussian is cut at 3 sigma, as the standard (biased)
            encoding does.

    Returns:
        tuple:
        - heatmaps (Array): In [0, 1], shape (..., H, W).
        - in_reach (Array): Bool, shape (...), see :func:`heatmap_in_reach`.
          Where it is False the heatmap is 0.

    Example:
        >>> gaussian_heatmaps(torch.tensor([[2., 1.]]), (5, 4), 1.0)[0].shape
        torch.Size([1, 4, 5])
    """
    draw = _unbiased_heatmaps if unbiased else _biased_heatmaps
    return draw(keypoints, heatmap_size, sigma)


def _unbiased_heatmaps(keypoints: Array, heatmap_size: Tuple[int, int],
                       sigma: float) -> Tuple[Array, Array]:
    # exp(a + b) = exp(a) exp(b): W + H exponentials a keypoint, not W * H
    W, H = heatmap_size
    in_reach = heatmap_in_reach(keypoints, heatmap_size, sigma)
    lines = _gaussian(_offsets(keypoints, max(W, H)), -0.5 / sigma**2)
    rows = lines[..., 0, :W] * in_reach[..., None]
    columns = lines[..., 1, :H]
    if namespace(lines) is np:
        # half again as fast as numpy's product of both
        return np.einsum('...h,...w->...hw', columns, rows), in_reach
    return columns[..., None] * rows[..., None, :], in_reach


def _gaussian(offsets: Array, exponent: Union[float, Array]) -> Array:
    """exp(exponent d^2) of offsets d, in place, for an exponent of -1 /
    (2 sigma^2); further out than ``REACH`` sigma, or NaN, its value there."""
    offsets *= offsets
    offsets *= exponent
    return exp_(offsets, -0.5 * REACH**2)


@lru_cache(maxsize=16)
def _large_heatmap(center: int, sigma: float, dtype: str) -> np.ndarray:
    """A biased Gaussian in the middle of a square map of 2 center + 1 cells,
    of which every biased heatmap is a part."""
    offsets = np.arange(-center, center + 1.)
    line = np.exp(-0.5 * (offsets / sigma)**2) * (abs(offsets) <= 3 * sigma)
    return np.outer(line, line).astype(dtype)


@lru_cache(maxsize=16)
def _corners_in_reach(number: int, size: int, sigma: float,
                      center: int) -> np.ndarray:
    """:func:`heatmap_in_reach` along one axis, for the first row or column
    that a biased heatmap takes from the large one. Shape (number,)."""
    cells = center - np.arange(float(number))
    return heatmap_in_reach(
        np.stack([cells, cells], axis=-1), (size, size), sigma)


def _biased_heatmaps(keypoints: Array, heatmap_size: Tuple[int, int],
                     sigma: float) -> Tuple[Array, Array]:
    # nothing is computed, only copied
    W, H = heatmap_size
    reach = int(3 * sigma)
    lowest = -reach - 2  # here, or at `center`, a Gaussian is not seen
    center = max(W, H) + reach + 2
    large = as_array(
        _large_heatmap(center, sigma, precision(keypoints)), like=keypoints)
    corners = center - whole(round_to_cell(keypoints), lowest, center)
    left, top = corners[..., 0], corners[..., 1]
    number = center - lowest + 1
    in_reach = (
        look_up(_corners_in_reach(number, W, sigma, center), left)
        & look_up(_corners_in_reach(number, H, sigma, center), top))
    pitch = 2 * center + 1
    heatmaps = crops(large.reshape(-1), top * pitch + left, H, W, pitch)
    return heatmaps, in_reach


def simcc_inside(coords: Array, num_bins: Sequence[int]) -> Array:
    """Which points lie in the image and have a bin on every axis.

    Args:
        coords (Array): Coordinates in bins, shape (..., A), one for each
            axis.
        num_bins (sequence[int]): Number of bins of each of the A axes.

    Returns:
        Array: Bool, shape (...): no coordinate is negative, and each is
        nearest to one of the bins. False for NaN.
    """
    limits = as_array([number - 0.5 for number in num_bins], like=coords)
    inside = (coords >= 0) & (coords < limits)
    return inside.all(-1)


def simcc_one_hot(coords: Array, num_bins: Sequence[int]) -> Tuple[Array, ...]:
    """One at the nearest bin (SimCC, Section 3, without label smoothing).

    Args:
        coords (Array): Coordinates in bins, shape (..., A), inside each of
            the A axes.
        num_bins (sequence[int]): Number of bins of each axis.

    Returns:
        tuple[Array]: A label for each axis that sums to 1, shape
        (..., num_bins).
    """
    return simcc_equal(coords, num_bins, smoothing=0.)


def simcc_equal(coords: Array, num_bins: Sequence[int],
                smoothing: float) -> Tuple[Array, ...]:
    """Equal label smoothing (SimCC, Section 3 "Label smoothing").

    ``1 - smoothing`` at the nearest bin and ``smoothing / (num_bins - 1)`` at
    every other.

    Args:
        coords (Array): Coordinates in bins, shape (..., A), inside each of
            the A axes.
        num_bins (sequence[int]): Number of bins of each axis, at least 2.
        smoothing (float): The part given to the other bins, in [0, 1).

    Returns:
        tuple[Array]: A label for each axis that sums to 1, shape
        (..., num_bins).
    """
    xp = namespace(coords)
    labels = []
    for axis, number in enumerate(num_bins):
        center = coords[..., axis]
        nearest = _offsets(center.round(), number) == 0
        values = as_array(
            xp.where(nearest, 1. - smoothing, smoothing / (number - 1)),
            coords)
        values *= (center == center)[..., None]  # 0 for NaN
        labels.append(values)
    return tuple(labels)


def simcc_gaussian(coords: Array, num_bins: Sequence[int],
                   sigma: Sequence[float]) -> Tuple[Array, ...]:
    r"""Gaussian label smoothing (SimCC, Section 3 "Label smoothing").

    The density of :math:`\mathcal{N}(c, \sigma)` at every bin; the centre is
    not rounded. Sums to 1 but for what lies outside the axis. 0 from about 9
    sigma on.

    Args:
        coords (Array): Coordinates c in bins, shape (..., A), one for each
            axis.
        num_bins (sequence[int]): Number of bins of each of the A axes.
        sigma (sequence[float]): Standard deviation in bins on each axis.

    Returns:
        tuple[Array]: A label for each axis, shape (..., num_bins).
    """
    width = 2 * math.ceil(REACH * max(sigma)) + 1
    if len(num_bins) > 1 and width > min(num_bins):
        return tuple(
            simcc_gaussian(coords[..., axis:axis + 1], (number, ), (scale, ))
            [0] for axis, (number, scale) in enumerate(zip(num_bins, sigma)))
    # all axes together, and only what is not 0: a window on each axis
    width = min(width, num_bins[0])
    last = as_array([number - width for number in num_bins], like=coords)
    start = whole(coords - width // 2, 0, last)
    exponents = as_array([[-0.5 / scale**2] for scale in sigma], coords)
    values = _gaussian(
        _offsets(coords - as_array(start, coords), width), exponents)
    peaks = as_array([1 / (scale * math.sqrt(2 * math.pi)) for scale in sigma],
                     coords)
    values *= ((coords == coords) * peaks)[..., None]  # 0 for NaN
    return place(values, start, num_bins)


def simcc_laplace(coords: Array, num_bins: Sequence[int],
                  sigma: Sequence[float]) -> Tuple[Array, ...]:
    r"""Laplace label smoothing (SimCC, Section 3 "Label smoothing").

    The density :math:`\exp(-|x-c|/b) / (2b)` at every bin, with b = sigma.

    Args:
        coords (Array): Coordinates c in bins, shape (..., A), one for each
            axis.
        num_bins (sequence[int]): Number of bins of each of the A axes.
        sigma (sequence[float]): Scale b in bins on each axis.

    Returns:
        tuple[Array]: A label for each axis, shape (..., num_bins).
    """
    labels = []
    for axis, (number, scale) in enumerate(zip(num_bins, sigma)):
        center = coords[..., axis]
        values = abs(_offsets(center, number))
        values *= -1 / scale
        values = exp_(values, -80)
        values *= ((center == center) * (0.5 / scale))[..., None]  # 0 for NaN
        labels.append(values)
    return tuple(labels)
