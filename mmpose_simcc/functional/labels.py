# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Labels: keypoint coordinates to heatmaps and to SimCC vectors.

Pure functions, batched over every leading dimension, of torch tensors on
their own device or of numpy arrays; what goes in comes out. Heatmap
coordinates are in cells (cell ``i`` lies at pixel ``i * stride``), SimCC
coordinates in bins (pixel ``x`` lies at bin ``x * k``). NaN coordinates, and
points that are not ``drawn``, give labels of zeros.
"""

import math
from functools import lru_cache
from typing import Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from .arrays import (
    Array,
    arange,
    as_array,
    constant,
    constants,
    exp_,
    look_up,
    namespace,
    place,
    precision,
    whole,
)

# A Gaussian is cut here, at 7e-10 of its peak, a hundredth of what float32
# tells apart from it. Far out it would hold subnormal numbers, which cost a
# processor a hundred times as much as others.
REACH = 6.5  # sigma


@lru_cache(maxsize=64)
def _positions(size: int, dtype: np.dtype) -> np.ndarray:
    return np.arange(size, dtype=dtype)


def _offsets(centers: Array, size: int) -> Array:
    """Distances of ``size`` positions from each centre, shape (..., size)."""
    if isinstance(centers, np.ndarray):
        # numpy subtracts faster along two dimensions than along five
        offsets = _positions(size, centers.dtype) - centers.reshape(-1, 1)
        return offsets.reshape(*centers.shape, size)
    return as_array(arange(0, size, centers), centers) - centers[..., None]


def _outer(columns: Array, rows: Array) -> Array:
    """Products of lines along y, shape (..., H), and along x, shape (..., W).

    Returns:
        Array: Shape (..., H, W).
    """
    columns, rows = columns[..., None], rows[..., None, :]
    if isinstance(columns, np.ndarray):
        # three times as fast as numpy's product
        return torch.mul(torch.from_numpy(columns), torch.from_numpy(rows)).numpy()
    return columns * rows


def _erase(lines: Array, drawn: Array) -> None:
    """Zeros for the lines (..., size) that are not drawn."""
    # Where all keypoints of a sample are labelled there is nothing to erase,
    # and numpy takes six times as long to find that out as a look at bytes.
    if isinstance(drawn, Tensor) or 0 in drawn.tobytes():
        lines[~drawn] = 0


def heatmap_in_reach(centers: Array, heatmap_size: Tuple[int, int], sigma: float) -> Array:
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
    low, high = constants(_reach_limits(tuple(heatmap_size), sigma), centers)
    touches = centers < high
    touches &= centers >= low
    return touches[..., 0] & touches[..., 1]


@lru_cache(maxsize=64)
def _reach_limits(heatmap_size: Tuple[int, int], sigma: float) -> Tuple:
    W, H = heatmap_size
    return -3 * sigma - 1, (W + 3 * sigma, H + 3 * sigma)


def gaussian_heatmaps(
    keypoints: Array,
    heatmap_size: Tuple[int, int],
    sigma: float,
    unbiased: bool = True,
    drawn: Optional[Array] = None,
) -> Tuple[Array, Array]:
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
            (Eq. 13) and the Gaussian is cut at 3 sigma, as the standard
            (biased) encoding does.
        drawn (Array, optional): Which keypoints are drawn, bool, shape (...).
            All by default.

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
    return draw(keypoints, heatmap_size, sigma, drawn)


def _unbiased_heatmaps(
    keypoints: Array, heatmap_size: Tuple[int, int], sigma: float, drawn: Optional[Array]
) -> Tuple[Array, Array]:
    # exp(a + b) = exp(a) exp(b): W + H exponentials a keypoint, not W * H
    W, H = heatmap_size
    in_reach = heatmap_in_reach(keypoints, heatmap_size, sigma)
    offsets = _offsets(keypoints, max(W, H))
    offsets *= offsets
    exponent, lowest = constants((-0.5 / sigma**2, -0.5 * REACH**2), offsets)
    offsets *= exponent
    lines = exp_(offsets, lowest)
    _erase(lines, in_reach if drawn is None else in_reach & drawn)
    return _outer(lines[..., 1, :H], lines[..., 0, :W]), in_reach


@lru_cache(maxsize=16)
def _biased_lines(
    lowest: int, highest: int, heatmap_size: Tuple[int, int], sigma: float, dtype: str
) -> np.ndarray:
    """For each cell from lowest to highest, and then for those below 0, a
    line along an axis: a Gaussian around it, cut at 3 sigma, and whether it
    is in reach on the x and on the y axis."""
    centers = np.roll(np.arange(lowest, highest + 1.0), lowest)
    offsets = np.arange(max(heatmap_size)) - centers[:, None]
    lines = np.exp(-0.5 * (offsets / sigma) ** 2) * (abs(offsets) <= 3 * sigma)
    in_reach = [
        heatmap_in_reach(np.stack([centers] * 2, -1), (size, size), sigma) for size in heatmap_size
    ]
    return np.column_stack([lines, *in_reach]).astype(dtype)


def _biased_heatmaps(
    keypoints: Array, heatmap_size: Tuple[int, int], sigma: float, drawn: Optional[Array]
) -> Tuple[Array, Array]:
    # nothing is computed but the product: lines around the nearest cell (DARK,
    # Section 3.2, Eq. 13) are looked up
    W, H = heatmap_size
    lowest = -int(3 * sigma) - 2  # a Gaussian here is not seen
    highest = max(W, H) - lowest
    table = _biased_lines(lowest, highest, (W, H), sigma, precision(keypoints))
    # An index below 0 counts from the end. Like in MMPose, a coordinate in
    # (-1.5, -0.5) cells goes to cell 0.
    half, low, high = constants((0.5, lowest, highest), keypoints)
    lines = look_up(table, whole(keypoints + half, low, high))
    in_reach = lines[..., 0, -2] * lines[..., 1, -1]
    in_reach = in_reach > constant(0, in_reach)
    if drawn is not None:
        _erase(lines, drawn)
    return _outer(lines[..., 1, :H], lines[..., 0, :W]), in_reach


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
    low, high = constants(_bin_limits(tuple(num_bins)), coords)
    axes = coords < high
    axes &= coords >= low
    inside = axes[..., 0]
    for i in range(1, axes.shape[-1]):  # twice as fast as axes.all(-1)
        inside = inside & axes[..., i]
    return inside


@lru_cache(maxsize=64)
def _bin_limits(num_bins: Tuple[int, ...]) -> Tuple:
    return 0, tuple(number - 0.5 for number in num_bins)


@lru_cache(maxsize=64)
def _density(sigma: Tuple[float, ...]) -> Tuple:
    """Of the normal density on each axis: the factor of a squared distance in
    the exponent, the lowest exponent, and the peak."""
    return (
        tuple((-0.5 / scale**2,) for scale in sigma),
        -0.5 * REACH**2,
        tuple((1 / (scale * math.sqrt(2 * math.pi)),) for scale in sigma),
    )


def simcc_one_hot(
    coords: Array, num_bins: Sequence[int], drawn: Optional[Array] = None
) -> Tuple[Array, ...]:
    """One at the nearest bin (SimCC, Section 3, without label smoothing).

    Args:
        coords (Array): Coordinates in bins, shape (..., A), inside each of
            the A axes.
        num_bins (sequence[int]): Number of bins of each axis.
        drawn (Array, optional): Which points get a label, bool, shape (...).
            All by default.

    Returns:
        tuple[Array]: A label for each axis that sums to 1, shape
        (..., num_bins).
    """
    return simcc_equal(coords, num_bins, smoothing=0.0, drawn=drawn)


def simcc_equal(
    coords: Array, num_bins: Sequence[int], smoothing: float, drawn: Optional[Array] = None
) -> Tuple[Array, ...]:
    """Equal label smoothing (SimCC, Section 3 "Label smoothing").

    ``1 - smoothing`` at the nearest bin and ``smoothing / (num_bins - 1)`` at
    every other.

    Args:
        coords (Array): Coordinates in bins, shape (..., A), inside each of
            the A axes.
        num_bins (sequence[int]): Number of bins of each axis, at least 2.
        smoothing (float): The part given to the other bins, in [0, 1).
        drawn (Array, optional): Which points get a label, bool, shape (...).
            All by default.

    Returns:
        tuple[Array]: A label for each axis that sums to 1, shape
        (..., num_bins).
    """
    xp = namespace(coords)
    labels = []
    for axis, number in enumerate(num_bins):
        center = coords[..., axis]
        nearest = _offsets(center.round(), number) == 0
        values = as_array(xp.where(nearest, 1.0 - smoothing, smoothing / (number - 1)), coords)
        _erase(values, center == center if drawn is None else drawn)
        labels.append(values)
    return tuple(labels)


def simcc_gaussian(
    coords: Array, num_bins: Sequence[int], sigma: Sequence[float], drawn: Optional[Array] = None
) -> Tuple[Array, ...]:
    r"""Gaussian label smoothing (SimCC, Section 3 "Label smoothing").

    The density of :math:`\mathcal{N}(c, \sigma)` at every bin; the centre is
    not rounded. Sums to 1 but for what lies outside the axis. 0 from about
    6.5 sigma on.

    Args:
        coords (Array): Coordinates c in bins, shape (..., A), one for each
            axis.
        num_bins (sequence[int]): Number of bins of each of the A axes.
        sigma (sequence[float]): Standard deviation in bins on each axis.
        drawn (Array, optional): Which points get a label, bool, shape (...).
            All by default.

    Returns:
        tuple[Array]: A label for each axis, shape (..., num_bins).
    """
    width = 2 * math.ceil(REACH * max(sigma)) + 1
    if len(num_bins) > 1 and width > min(num_bins):
        return tuple(
            simcc_gaussian(coords[..., axis : axis + 1], (number,), (scale,), drawn)[0]
            for axis, (number, scale) in enumerate(zip(num_bins, sigma))
        )
    # all axes together, and only what is not 0: a window on each axis
    width = min(width, num_bins[0])
    half, first, last = constants(
        (width // 2, 0, tuple([number - width for number in num_bins])), coords
    )
    start = whole(coords - half, first, last)
    values = _offsets(coords - as_array(start, coords), width)
    values *= values
    exponent, lowest, peak = constants(_density(tuple(sigma)), values)
    values *= exponent
    values = exp_(values, lowest)
    values *= peak
    _erase(values, coords == coords if drawn is None else drawn)
    return place(values, start, num_bins)


def simcc_laplace(
    coords: Array, num_bins: Sequence[int], sigma: Sequence[float], drawn: Optional[Array] = None
) -> Tuple[Array, ...]:
    r"""Laplace label smoothing (SimCC, Section 3 "Label smoothing").

    The density :math:`\exp(-|x-c|/b) / (2b)` at every bin, with b = sigma.

    Args:
        coords (Array): Coordinates c in bins, shape (..., A), one for each
            axis.
        num_bins (sequence[int]): Number of bins of each of the A axes.
        sigma (sequence[float]): Scale b in bins on each axis.
        drawn (Array, optional): Which points get a label, bool, shape (...).
            All by default.

    Returns:
        tuple[Array]: A label for each axis, shape (..., num_bins).
    """
    labels = []
    for axis, (number, scale) in enumerate(zip(num_bins, sigma)):
        center = coords[..., axis]
        values = abs(_offsets(center, number))
        values *= -1 / scale
        values = exp_(values, constant(-80, values))
        values *= 0.5 / scale
        _erase(values, center == center if drawn is None else drawn)
        labels.append(values)
    return tuple(labels)
