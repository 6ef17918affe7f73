# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decoders: heatmaps and SimCC vectors to sub-cell coordinates.

Pure functions, batched over every leading dimension, of torch tensors on
their own device or of numpy arrays; what goes in comes out. Coordinates are
in heatmap cells, or in bins for vectors; codecs scale them to pixels. All
decoders start from the integer argmax and read only a window around it.
"""

import math
from functools import lru_cache
from typing import Sequence, Tuple, Union

import cv2
import numpy as np
from torch import Tensor

from .arrays import (
    Array,
    arange,
    as_array,
    at_least,
    crops,
    look_up,
    multiples,
    namespace,
    precision,
    stack,
)

LOWEST = 1e-10  # below it a response counts as this, as in the published code


def vector_at(vectors: Array, locs: Array) -> Array:
    """The entry of every vector at its own index.

    Args:
        vectors (Array): Shape (..., L).
        locs (Array): Indices, int64, shape (...).

    Returns:
        Array: Shape (...).
    """
    *shape, L = vectors.shape
    start = multiples(math.prod(shape), L, like=vectors)
    return vectors.reshape(-1)[start.reshape(locs.shape) + locs]


def vector_argmax(vectors: Array) -> Tuple[Array, Array]:
    """The maximum of every vector.

    Args:
        vectors (Array): Shape (..., L).

    Returns:
        tuple:
        - locs (Array): Index of the first maximum, int64, shape (...).
        - vals (Array): The maxima, shape (...). NaN where a vector has one.
    """
    locs = vectors.argmax(-1)
    return locs, vector_at(vectors, locs)


def peak_mass(vectors: Array, locs: Array, radius: int) -> Array:
    """The sum around an index of every vector.

    Args:
        vectors (Array): Shape (..., L).
        locs (Array): Indices, int64, shape (...).
        radius (int): Farthest entries from the index to add.

    Returns:
        Array: Shape (...).
    """
    *shape, L = vectors.shape
    index, inside = (
        look_up(table, locs) for table in _indices_around(int(L), radius, precision(vectors))
    )
    start = multiples(math.prod(shape), L, like=vectors)
    values = vectors.reshape(-1)[start.reshape(*locs.shape, 1) + index]
    return (values * inside).sum(-1)


@lru_cache(maxsize=64)
def _indices_around(L: int, radius: int, dtype: str) -> Tuple[np.ndarray, np.ndarray]:
    """The indices around each index of a vector, moved to lie on it, and 1 or
    0 for those that did or did not. Shapes (L, 2 radius + 1)."""
    index = np.arange(L)[:, None] + np.arange(-radius, radius + 1)
    inside = (index >= 0) & (index < L)
    return index.clip(0, L - 1), inside.astype(dtype)


def heatmap_argmax(heatmaps: Array) -> Tuple[Array, Array]:
    """The maximum of every heatmap: "standard decoding" (DAEC, Section 2.2),
    "no shifting" (DARK, Table 1).

    Args:
        heatmaps (Array): Shape (..., H, W).

    Returns:
        tuple:
        - locs (Array): Cells (x, y) of the first maximum, int64, shape
          (..., 2).
        - vals (Array): The maxima, shape (...). NaN where a map has one.

    Example:
        >>> heatmap_argmax(torch.eye(3)[None, 1:])
        (tensor([[1, 0]]), tensor([1.]))
    """
    *shape, H, W = heatmaps.shape
    index, vals = vector_argmax(heatmaps.reshape(math.prod(shape), H * W))
    if isinstance(index, np.ndarray):  # as in the tables below
        locs = look_up(_cells(H, W), index)
    else:
        y = index // W
        locs = stack([index - y * W, y]).T
    return locs.reshape(*shape, 2), vals.reshape(shape)


@lru_cache(maxsize=8)
def _cells(H: int, W: int) -> np.ndarray:
    """(x, y) of the cells of a map, row by row. Shape (H * W, 2), int64."""
    y, x = np.divmod(np.arange(H * W), W)
    return np.column_stack([x, y])


def _flatten(heatmaps: Array, locs: Array) -> Tuple[Array, Array, Array]:
    """All leading dimensions as one: maps (M, H, W), x (M,) and y (M,)."""
    *shape, H, W = heatmaps.shape
    x, y = locs.reshape(-1, 2).T
    return heatmaps.reshape(math.prod(shape), H, W), x, y


# What follows from the position of a maximum along one axis is looked up in a
# table of all positions: for the 17 numbers of a sample, a call of numpy takes
# longer than the work itself, and one call replaces several.


@lru_cache(maxsize=64)
def _window_starts(size: int, radius: int, pitch: int) -> np.ndarray:
    """The first cell of the window around each position of an axis, moved to
    lie on it, times ``pitch``. Shape (size,), int64."""
    width = min(2 * radius + 1, size)
    return (np.arange(size) - radius).clip(0, size - width) * pitch


@lru_cache(maxsize=64)
def _between(size: int, low: int, high: int) -> np.ndarray:
    """Which positions of an axis lie in [low, size - high). Shape (size,)."""
    positions = np.arange(size)
    return (positions >= low) & (positions < size - high)


def _map_size(heatmaps: Array) -> Tuple[int, int]:
    """Height and width as the numbers for which there are tables. While a
    graph is traced for export, torch gives them as tensors."""
    H, W = heatmaps.shape[-2:]
    return int(H), int(W)


def _window(heatmaps: Array, x: Array, y: Array, radius: int) -> Array:
    """The cells around each maximum, moved to lie on the map.

    Args:
        heatmaps (Array): Shape (M, H, W).
        x (Array): Column of each maximum, shape (M,).
        y (Array): Row of each maximum, shape (M,).
        radius (int): Reach of the window in cells.

    Returns:
        Array: Shape (M, h, w) with h and w = 2 radius + 1, or the size of a
        smaller map. They start where :func:`_window_starts` says.
    """
    M = heatmaps.shape[0]
    H, W = _map_size(heatmaps)
    start = (
        multiples(M, H * W, like=heatmaps)
        + look_up(_window_starts(H, radius, W), y)
        + look_up(_window_starts(W, radius, 1), x)
    )
    height, width = min(2 * radius + 1, H), min(2 * radius + 1, W)
    return crops(heatmaps.reshape(-1), start, height, width, pitch=W)


@lru_cache(maxsize=64)
def _blur_matrices(
    size: int, radius: int, kernel_size: int, dtype: str, transposed: bool
) -> np.ndarray:
    """Banded matrices that blur the windows along one axis, with zeros around
    the map.

    Args:
        size (int): Cells of the axis.
        radius (int): Reach of the blurred window around its maximum.
        kernel_size (int): Odd size of the Gaussian kernel.
        dtype (str): ``'float32'`` or ``'float64'``.
        transposed (bool): For products from the right.

    Returns:
        np.ndarray: Shape (size, 2 radius + 1, width), or (size, width,
        2 radius + 1) if transposed. Entry p maps the ``width`` cells of the
        window around position p, of :func:`_window_starts`, to the blurred
        values at p - radius .. p + radius.
    """
    # OpenCV's Gaussian, whose sigma follows from the size, as in DARK
    kernel = cv2.getGaussianKernel(kernel_size, -1)[:, 0]
    half = (kernel_size - 1) // 2
    reach = radius + half
    cells = np.arange(min(2 * reach + 1, size))
    cells = cells + _window_starts(size, reach, 1)[:, None, None]
    outputs = np.arange(-radius, radius + 1)[:, None]
    outputs = outputs + np.arange(size)[:, None, None]
    taps = cells - outputs + half
    weights = kernel[taps.clip(0, kernel_size - 1)]
    weights = weights * ((taps >= 0) & (taps < kernel_size))
    # contiguous, which halves the time of the products
    return np.ascontiguousarray(weights.swapaxes(1, 2) if transposed else weights, dtype)


def blur_kernel_size_of(sigma: float) -> int:
    """The modulation kernel that matches a label's sigma (DARK, Eq. 10).

    The largest odd size whose Gaussian in OpenCV (sigma = 0.3 ((size - 1) / 2
    - 1) + 0.8) is not wider than the label's: 11 for sigma 2, 17 for sigma 3.

    Args:
        sigma (float): Standard deviation of the label in cells or bins.

    Returns:
        int: An odd size, at least 3.
    """
    size = int((20 * sigma - 7) // 3)
    return max(3, size - 1 + size % 2)


def _blurred_window(heatmaps: Array, x: Array, y: Array, radius: int, kernel_size: int) -> Array:
    """Window of the blurred map, zero padding at the border (DARK, Eq. 10).
    Only the window is blurred.

    Returns:
        Array: Shape (M, S, S) with S = 2 radius + 1, the maximum in its
        middle.
    """
    H, W = _map_size(heatmaps)
    values = _window(heatmaps, x, y, radius + (kernel_size - 1) // 2)
    dtype = precision(values)
    blur_y = _blur_matrices(H, radius, kernel_size, dtype, transposed=False)
    blur_x = _blur_matrices(W, radius, kernel_size, dtype, transposed=True)
    return look_up(blur_y, y) @ values @ look_up(blur_x, x)


def shift_quarter(heatmaps: Array, locs: Array) -> Array:
    """A quarter of a cell towards the larger neighbour along each axis: the
    sign shift of HRNet and SimpleBaseline, "quarter offset".

    By MMPose's border rules: along x where 1 < x < W - 1 and y > 0, along y
    where 1 < y < H - 1 and x > 0.

    Args:
        heatmaps (Array): Shape (..., H, W).
        locs (Array): Cells (x, y) of the maxima, int64, shape (..., 2).

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).
    """
    H, W = _map_size(heatmaps)
    maps, x, y = _flatten(heatmaps, locs)
    M = maps.shape[0]
    index = multiples(M, H * W, like=maps) + y * W + x
    # right, below, left, above; on another map where it is not used
    near = stack([index + 1, index + W, index - 1, index - W])
    near = maps.reshape(-1)[near.clip(0, M * H * W - 1)]
    inner = stack(
        [
            look_up(_between(W, 2, 1), x) & look_up(_between(H, 1, 0), y),
            look_up(_between(H, 2, 1), y) & look_up(_between(W, 1, 0), x),
        ]
    )
    # -1, 0 or 1; 0 where a value is NaN
    sign = as_array((near[:2] > near[2:]) & inner, like=near) - as_array(
        (near[:2] < near[2:]) & inner, like=near
    )
    return as_array(locs, like=near) + 0.25 * sign.T.reshape(locs.shape)


def shift_second_max(heatmaps: Array, locs: Array) -> Array:
    r"""A quarter of a cell towards the second maximum (DARK, Eq. 1).

    .. math:: p = m + 0.25 \frac{s - m}{\lVert s - m \rVert_2}

    Where every other cell is -inf, the maximum itself.

    Args:
        heatmaps (Array): Shape (..., H, W), at least two cells.
        locs (Array): Cells (x, y) of the maxima m, int64, shape (..., 2).

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).
    """
    xp = namespace(heatmaps)
    H, W = heatmaps.shape[-2:]
    index = locs[..., 1] * W + locs[..., 0]
    cells = arange(0, H * W, heatmaps).reshape(H, W)
    others = xp.where(cells == index[..., None, None], -math.inf, heatmaps)
    second, _ = heatmap_argmax(others)
    towards = as_array(second - locs, heatmaps)
    distance = xp.sqrt((towards * towards).sum(-1))[..., None]
    # no other cell above -inf
    shift = xp.where(distance > 0, 0.25 * towards / distance, 0.0)
    return as_array(locs, heatmaps) + shift


@lru_cache(maxsize=1)
def _derivative_matrix() -> np.ndarray:
    """Finite differences on a 5 x 5 window, shape (5, 25): d/dx, d/dy with
    spacing 1 and d2/dx2, d2/dxdy, d2/dy2 with spacing 2, as in the published
    code of DARK."""
    stencils = np.zeros((5, 5, 5))
    dx, dy, dxx, dxy, dyy = stencils  # each (row, column), centre at (2, 2)
    dx[2, 3], dx[2, 1] = 0.5, -0.5
    dy[3, 2], dy[1, 2] = 0.5, -0.5
    dxx[2, 4], dxx[2, 2], dxx[2, 0] = 0.25, -0.5, 0.25
    dyy[4, 2], dyy[2, 2], dyy[0, 2] = 0.25, -0.5, 0.25
    dxy[3, 3], dxy[1, 1], dxy[1, 3], dxy[3, 1] = 0.25, 0.25, -0.25, -0.25
    return stencils.reshape(5, 25)


def refine_dark(heatmaps: Array, locs: Array, blur_kernel_size: int) -> Array:
    r"""Distribution-aware decoding: one Newton step on the log of the
    smoothed heatmap (DARK, Eq. 9 and 10).

    .. math:: \mu = m - \left(D''(m)\right)^{-1} D'(m)

    Only where 1 < x < W - 2 and 1 < y < H - 2; elsewhere, and where the
    Hessian is singular, the maximum itself. Scaling the smoothed map back
    (Eq. 11) changes no derivative of its log, so the map is smoothed only
    around m.

    Args:
        heatmaps (Array): Shape (..., H, W).
        locs (Array): Cells (x, y) of the maxima m, int64, shape (..., 2).
        blur_kernel_size (int): Odd size of the Gaussian kernel with zero
            padding; 1 does not smooth (DARK, Table 2 without modulation).

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).
    """
    xp = namespace(heatmaps)
    H, W = _map_size(heatmaps)
    maps, x, y = _flatten(heatmaps, locs)
    window = _blurred_window(maps, x, y, 2, blur_kernel_size)
    log = xp.log(at_least(window, LOWEST)).reshape(-1, 25)
    dx, dy, dxx, dxy, dyy = as_array(_derivative_matrix(), like=log) @ log.T
    det = dxx * dyy - dxy * dxy
    step = stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy]) / det
    inner = look_up(_between(W, 2, 2), x) & look_up(_between(H, 2, 2), y)
    step = xp.where(inner & xp.isfinite(step), step, 0.0)
    return as_array(locs, step) + step.T.reshape(locs.shape)


def _daec_moments(
    cells: Array, size: int, center: Array, delta: Array, radius: int, cut_upper: bool
) -> Array:
    """Weights of order 0 and 1 along one axis of DAEC's window.

    A cell counts 1 from -radius to radius - delta (mirrored for a cut of the
    lower bound), falling linearly over the last cell, so that a fractional
    delta counts it by its part.

    Args:
        cells (Array): Columns or rows of the window, shape (M, S).
        size (int): Columns or rows of the map; cells beyond count nothing.
        center (Array): Column or row of the maximum, shape (M,).
        delta (Array): Error-compensation factors, shape (M,).
        radius (int): Reach of the uncut window.
        cut_upper (bool): Whether the upper or the lower bound is cut.

    Returns:
        Array: Shape (M, 2, S): the weights, and the weights times offsets
        from the maximum.
    """
    offsets = as_array(cells - center[:, None], delta)
    outwards = offsets if cut_upper else -offsets
    weights = (radius + 1 - delta[:, None] - outwards).clip(0, 1)
    weights = weights * ((outwards >= -radius) & (cells >= 0) & (cells < size))
    return stack([weights, weights * offsets]).swapaxes(0, 1)


_CUTS_UPPER = dict(br=(True, True), ur=(True, False), bl=(False, True), ul=(False, False))

Delta = Union[float, Sequence, Array]


def daec_radius(sigma: float) -> int:
    """Half width of DAEC's window in cells: 3 sigma and one more (DAEC,
    Section 3.3, step 2).

    Args:
        sigma (float): Standard deviation of the label in cells.
    """
    return int(3 * sigma + 1)


def _daec_reach(radius: int, delta: Delta) -> int:
    """Reach of the window that a negative delta widens."""
    # numpy where it can: reading a tensor waits for its device
    lowest = delta.min() if isinstance(delta, Tensor) else np.min(delta)
    return radius + max(0, -math.floor(lowest))


def decode_daec(
    heatmaps: Array,
    locs: Array,
    sigma: float,
    delta: Delta,
    corner: str = 'br',
    blur_kernel_size: int = 1,
) -> Array:
    r"""Error-compensated decoding: the mean of a window that is cut at one
    corner (DAEC, Section 3.2, Eq. 10).

    .. math::
        \mu = \frac{\sum_{x_1}^{x_2-\Delta} x f(x)}
                   {\sum_{x_1}^{x_2-\Delta} f(x)}

    along each axis, over the 2-D window that reaches
    ``e = int(3 sigma + 1)`` cells from the maximum and is cut by Delta at
    its bottom-right corner. It is clipped to the map. Where nothing is left
    of it, the maximum itself.

    Args:
        heatmaps (Array): Shape (..., H, W).
        locs (Array): Cells (x, y) of the maxima, int64, shape (..., 2).
        sigma (float): Standard deviation of the label in cells.
        delta (float | sequence | Array): Error-compensation factor in cells;
            may be fractional or negative. Several broadcast to (..., 2): one
            for x and one for y, and, for example, a row a keypoint. A tensor
            on a device is waited for, numbers on the host are not.
        corner (str): The corner that is cut (DAEC, Section 4.6): 'br' (the
            method) the upper bounds of x and y, 'ul' the lower bounds, 'ur'
            the upper of x and the lower of y, 'bl' the lower of x and the
            upper of y.
        blur_kernel_size (int): Odd size of a Gaussian kernel that smooths
            the map first (DAEC, Section 4.5); 1 does not smooth.

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).
    """
    xp = namespace(heatmaps)
    H, W = _map_size(heatmaps)
    maps, x, y = _flatten(heatmaps, locs)
    radius = daec_radius(sigma)
    reach = _daec_reach(radius, delta)
    if blur_kernel_size > 1:
        window = _blurred_window(maps, x, y, reach, blur_kernel_size)
        left, top = x - reach, y - reach
    else:
        window = _window(maps, x, y, reach)
        left = look_up(_window_starts(W, reach, 1), x)
        top = look_up(_window_starts(H, reach, 1), y)
    deltas = xp.broadcast_to(as_array(delta, like=maps), locs.shape)
    deltas = deltas.reshape(-1, 2)
    upper_x, upper_y = _CUTS_UPPER[corner]
    height, width = window.shape[1:]
    columns = left[:, None] + arange(0, width, left)
    rows = top[:, None] + arange(0, height, top)
    moments_x = _daec_moments(columns, W, x, deltas[:, 0], radius, upper_x)
    moments_y = _daec_moments(rows, H, y, deltas[:, 1], radius, upper_y)
    # [[sum, sum x], [sum y, sum xy]] over the window in two products
    sums = moments_y @ at_least(window, LOWEST) @ moments_x.swapaxes(1, 2)
    mean = stack([sums[:, 0, 1], sums[:, 1, 0]]) / sums[:, 0, 0]
    mean = xp.where(xp.isfinite(mean), mean, 0.0)
    return as_array(locs, mean) + mean.T.reshape(locs.shape)


def refine_dark_1d(vectors: Array, locs: Array, blur_kernel_size: int) -> Array:
    """:func:`refine_dark` along one axis, for SimCC probabilities.

    A step that would leave the axis is not taken.

    Args:
        vectors (Array): Not negative, shape (..., L).
        locs (Array): Bins of the maxima, int64, shape (...).
        blur_kernel_size (int): Odd size of the Gaussian kernel; 1 does not
            smooth.

    Returns:
        Array: Coordinates in bins, shape (...).
    """
    xp = namespace(vectors)
    L = int(vectors.shape[-1])
    x = locs.reshape(-1)
    values = _window(vectors.reshape(-1, 1, L), x, 0 * x, 2 + (blur_kernel_size - 1) // 2)
    dtype = precision(values)
    blur = _blur_matrices(L, 2, blur_kernel_size, dtype, transposed=True)
    blurred = (values @ look_up(blur, x))[:, 0]
    log = xp.log(at_least(blurred, LOWEST))
    first = 0.5 * (log[:, 3] - log[:, 1])
    second = 0.25 * (log[:, 4] - 2 * log[:, 2] + log[:, 0])
    peak = as_array(x, like=log)
    refined = peak - first / second
    usable = look_up(_between(L, 2, 2), x) & (refined >= 0) & (refined <= L - 1)
    return xp.where(usable, refined, peak).reshape(locs.shape)


def decode_daec_1d(
    vectors: Array, locs: Array, sigma: float, delta: Delta, cut_upper: bool = True
) -> Array:
    """:func:`decode_daec` along one axis, for SimCC probabilities.

    Args:
        vectors (Array): Not negative, shape (..., L).
        locs (Array): Bins of the maxima, int64, shape (...).
        sigma (float): Standard deviation of the label in bins.
        delta (float | sequence | Array): Error-compensation factor in bins,
            several broadcast to (...).
        cut_upper (bool): Whether the upper or the lower bound is cut.

    Returns:
        Array: Coordinates in bins, shape (...).
    """
    xp = namespace(vectors)
    L = int(vectors.shape[-1])
    x = locs.reshape(-1)
    radius = daec_radius(sigma)
    reach = _daec_reach(radius, delta)
    values = _window(vectors.reshape(-1, 1, L), x, 0 * x, reach)
    left = look_up(_window_starts(L, reach, 1), x)
    bins = left[:, None] + arange(0, values.shape[-1], x)
    deltas = xp.broadcast_to(as_array(delta, like=values), locs.shape)
    moments = _daec_moments(bins, L, x, deltas.reshape(-1), radius, cut_upper)
    sums = (moments * at_least(values, LOWEST)).sum(-1)
    mean = sums[:, 1] / sums[:, 0]
    mean = xp.where(xp.isfinite(mean), mean, 0.0)
    return as_array(locs, mean) + mean.reshape(locs.shape)
