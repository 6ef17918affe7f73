# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decoders: heatmaps and SimCC vectors to sub-cell coordinates.

Pure functions, batched over every leading dimension, of torch tensors on their own device or of
numpy arrays; what goes in comes out. Coordinates are in heatmap cells, or in bins for vectors;
:mod:`.frames` has their pixels. All decoders start from the integer argmax and read only a window
around it: a map holds ten times as many cells.
"""

import math
from functools import lru_cache
from typing import Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from torch import Tensor

from .arrays import Array, arange, as_array, as_float, crop, is_finite, namespace, take

LOWEST = 1e-10  # below it a response counts as this, as in the published code

Delta = Union[float, Sequence, Array]


def vector_argmax(vectors: Array) -> Tuple[Array, Array]:
    """The maximum of every vector.

    Args:
        vectors (Array): Shape (..., L).

    Returns:
        tuple:
        - locs (Array): Index of the first maximum, int64, shape (...).
        - vals (Array): The maxima, shape (...). NaN where a vector has one.

    Example:
        >>> vector_argmax(torch.tensor([[1.0, 3.0, 2.0]]))
        (tensor([1]), tensor([3.]))
    """
    locs = vectors.argmax(-1)
    return locs, take(vectors, locs[..., None])[..., 0]


def heatmap_argmax(heatmaps: Array) -> Tuple[Array, Array]:
    """The maximum of every heatmap: "standard decoding" (DAEC, Section 2.2), "no shifting"
    (DARK, Table 1).

    Args:
        heatmaps (Array): Shape (..., H, W).

    Returns:
        tuple:
        - locs (Array): Cells (x, y) of the first maximum, int64, shape (..., 2).
        - vals (Array): The maxima, shape (...). NaN where a map has one.

    Example:
        >>> heatmap_argmax(torch.eye(3)[None, 1:])
        (tensor([[1, 0]]), tensor([1.]))
    """
    *shape, H, W = heatmaps.shape
    index, vals = vector_argmax(heatmaps.reshape(*shape, H * W))
    y = index // W
    return namespace(index).stack([index - y * W, y], -1), vals


def _flatten(heatmaps: Array, locs: Array) -> Tuple[Array, Array, Array]:
    """All leading dimensions as one: maps (M, H, W), x (M,) and y (M,)."""
    *shape, H, W = heatmaps.shape
    x, y = locs.reshape(-1, 2).T
    return heatmaps.reshape(math.prod(shape), H, W), x, y


def _window_start(locs: Array, radius: int, size: int) -> Tuple[Array, int]:
    """The window of ``radius`` cells around each position of an axis, shifted to lie on it: its
    first cell, and its width, that of the axis where this is shorter."""
    width = min(2 * radius + 1, size)
    return (locs - radius).clip(0, size - width), width


@lru_cache(maxsize=64)
def _blur_blocks(
    cells: int, width: int, kernel_size: int, dtype: str, device: Union[torch.device, None]
) -> Tuple[Array, Array]:
    """The banded matrix that blurs ``cells`` cells of an axis, with zeros around them: entry
    (i, j) is the weight of cell j in the blurred cell i. Of it, what gives ``width`` blurred
    cells from the first on, from the second on, and so forth. Kept, so that a device gets it
    once.

    Returns:
        tuple[Array, Array]: For products from the left, shape (starts, width, cells), and from
        the right, shape (starts, cells, width).
    """
    # OpenCV's Gaussian, whose sigma follows from the size, as in DARK
    kernel = cv2.getGaussianKernel(kernel_size, -1)[:, 0]
    taps = np.arange(cells) - np.arange(cells)[:, None] + kernel_size // 2
    in_kernel = (taps >= 0) & (taps < kernel_size)
    matrix = (kernel[taps.clip(0, kernel_size - 1)] * in_kernel).astype(dtype)
    rows = np.stack([matrix[start : start + width] for start in range(cells - width + 1)])
    blocks = rows, np.ascontiguousarray(rows.swapaxes(1, 2))
    if device is None:
        return blocks
    return tuple(torch.from_numpy(block).to(device) for block in blocks)


def _blur_of(like: Array, cells: int, width: int, kernel_size: int) -> Tuple[Array, Array]:
    """:func:`_blur_blocks` with kind, dtype and device of ``like``."""
    device = like.device if isinstance(like, Tensor) else None
    return _blur_blocks(cells, width, kernel_size, str(like.dtype).replace('torch.', ''), device)


def _window(
    heatmaps: Array, x: Array, y: Array, radius: int, blur_kernel_size: int = 1
) -> Tuple[Array, Array, Array]:
    """The cells around each maximum of the smoothed maps (DARK, Eq. 10; zeros around the map).
    Only what the window needs is smoothed.

    Args:
        heatmaps (Array): Shape (M, H, W).
        x (Array): Column of each maximum, shape (M,).
        y (Array): Row of each maximum, shape (M,).
        radius (int): Cells on each side of the maximum; a window that would leave the map is
            shifted onto it.
        blur_kernel_size (int): Odd size of the Gaussian kernel; 1 does not smooth.

    Returns:
        tuple[Array, Array, Array]: The windows, shape (M, h, w), and the first column and row
        of each, shape (M,).
    """
    H, W = map(int, heatmaps.shape[-2:])
    left, width = _window_start(x, radius, W)
    top, height = _window_start(y, radius, H)
    if blur_kernel_size == 1:
        return as_float(crop(heatmaps, left, top, (width, height))), left, top
    first_x, columns = _window_start(x, radius + blur_kernel_size // 2, W)
    first_y, rows = _window_start(y, radius + blur_kernel_size // 2, H)
    cells = as_float(crop(heatmaps, first_x, first_y, (columns, rows)))
    blur_y, _ = _blur_of(cells, rows, height, blur_kernel_size)
    _, blur_x = _blur_of(cells, columns, width, blur_kernel_size)
    return blur_y[top - first_y] @ cells @ blur_x[left - first_x], left, top


def _window_1d(
    vectors: Array, x: Array, radius: int, blur_kernel_size: int = 1
) -> Tuple[Array, Array]:
    """:func:`_window` along one axis: vectors (M, L) to windows (M, w) and their first bins."""
    L = int(vectors.shape[-1])
    left, width = _window_start(x, radius, L)
    first, cells = _window_start(x, radius + blur_kernel_size // 2, L)
    window = as_float(take(vectors, first[:, None] + arange(cells, first)))
    if blur_kernel_size > 1:
        blur, _ = _blur_of(window, cells, width, blur_kernel_size)
        window = (blur[left - first] @ window[:, :, None])[:, :, 0]
    return window, left


def blur_kernel_size_of(sigma: float) -> int:
    """The modulation kernel that matches a label's sigma (DARK, Eq. 10).

    The largest odd size whose Gaussian in OpenCV (sigma = 0.3 ((size - 1) / 2 - 1) + 0.8) is not
    wider than the label's: 11 for sigma 2, 17 for sigma 3.

    Args:
        sigma (float): Standard deviation of the label in cells or bins.

    Returns:
        int: An odd size, at least 3.

    Example:
        >>> blur_kernel_size_of(2)
        11
    """
    size = int((20 * sigma - 7) // 3)
    return max(3, size - 1 + size % 2)


def shift_quarter(heatmaps: Array, locs: Array) -> Array:
    """A quarter of a cell towards the larger neighbour along each axis: the sign shift of HRNet
    and SimpleBaseline, "quarter offset".

    By MMPose's border rules: along x where 1 < x < W - 1 and y > 0, along y where
    1 < y < H - 1 and x > 0.

    Args:
        heatmaps (Array): Shape (..., H, W).
        locs (Array): Cells (x, y) of the maxima, int64, shape (..., 2).

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).

    Example:
        >>> heatmap = torch.zeros(1, 5, 5)
        >>> heatmap[0, 2, 2], heatmap[0, 2, 3] = 1.0, 0.5
        >>> shift_quarter(heatmap, torch.tensor([[2, 2]]))
        tensor([[2.2500, 2.0000]])
    """
    xp = namespace(heatmaps)
    *shape, H, W = heatmaps.shape
    x, y = locs[..., 0], locs[..., 1]
    peak = y * W + x
    # right, below, left, above; the map's ends where this is off the map, which is not used
    neighbours = xp.stack([peak + 1, peak + W, peak - 1, peak - W], -1).clip(0, H * W - 1)
    values = take(heatmaps.reshape(*shape, H * W), neighbours)
    after, before = values[..., :2], values[..., 2:]
    inside = xp.stack([(x > 1) & (x < W - 1) & (y > 0), (y > 1) & (y < H - 1) & (x > 0)], -1)
    # 0 where they are equal, and where one is NaN
    sign = as_array(after > before, like=values) - as_array(after < before, like=values)
    return as_array(locs, like=values) + 0.25 * sign * inside


def shift_second_max(heatmaps: Array, locs: Array) -> Array:
    r"""A quarter of a cell towards the second maximum (DARK, Eq. 1).

    .. math:: p = m + 0.25 \frac{s - m}{\lVert s - m \rVert_2}

    Where every other cell is -inf, the maximum itself.

    Args:
        heatmaps (Array): Shape (..., H, W), at least two cells.
        locs (Array): Cells (x, y) of the maxima m, int64, shape (..., 2).

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).

    Example:
        >>> heatmap = torch.zeros(1, 5, 5)
        >>> heatmap[0, 2, 2], heatmap[0, 4, 2] = 1.0, 0.5
        >>> shift_second_max(heatmap, torch.tensor([[2, 2]]))
        tensor([[2.0000, 2.2500]])
    """
    xp = namespace(heatmaps)
    H, W = heatmaps.shape[-2:]
    peak = locs[..., 1] * W + locs[..., 0]
    cells = arange(H * W, peak).reshape(H, W)
    others = xp.where(cells == peak[..., None, None], -math.inf, heatmaps)
    second, _ = heatmap_argmax(others)
    towards = as_array(second - locs, heatmaps)
    distance = xp.sqrt((towards * towards).sum(-1))[..., None]
    # no other cell above -inf
    shift = xp.where(distance > 0, 0.25 * towards / distance, 0.0)
    return as_array(locs, heatmaps) + shift


def _derivatives(log: Array) -> Tuple[Array, ...]:
    """First derivatives (spacing 1) and second ones (spacing 2) in the middle of 5 x 5 cells, as
    in the published code of DARK.

    Args:
        log (Array): Shape (M, 5, 5), rows along y.

    Returns:
        tuple[Array]: d/dx, d/dy, d2/dx2, d2/dxdy, d2/dy2, each of shape (M,).
    """
    middle = log[:, 2, 2]
    dx = (log[:, 2, 3] - log[:, 2, 1]) / 2
    dy = (log[:, 3, 2] - log[:, 1, 2]) / 2
    dxx = (log[:, 2, 4] - 2 * middle + log[:, 2, 0]) / 4
    dyy = (log[:, 4, 2] - 2 * middle + log[:, 0, 2]) / 4
    dxy = (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1]) / 4
    return dx, dy, dxx, dxy, dyy


def refine_dark(heatmaps: Array, locs: Array, blur_kernel_size: int) -> Array:
    r"""Distribution-aware decoding: one Newton step on the log of the smoothed heatmap (DARK,
    Eq. 9 and 10).

    .. math:: \mu = m - \left(D''(m)\right)^{-1} D'(m)

    Only where 1 < x < W - 2 and 1 < y < H - 2; elsewhere, and where the Hessian is singular, the
    maximum itself. Scaling the smoothed map back (Eq. 11) changes no derivative of its log, so
    the map is smoothed only around m.

    Args:
        heatmaps (Array): Shape (..., H, W).
        locs (Array): Cells (x, y) of the maxima m, int64, shape (..., 2).
        blur_kernel_size (int): Odd size of the Gaussian kernel with zero padding; 1 does not
            smooth (DARK, Table 2 without modulation).

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).

    Example:
        >>> heatmaps, _ = gaussian_heatmaps(torch.tensor([[20.3, 30.6]]), (48, 64), sigma=2)
        >>> locs, _ = heatmap_argmax(heatmaps)
        >>> refine_dark(heatmaps, locs, blur_kernel_size=11)
        tensor([[20.2998, 30.6002]])
    """
    xp = namespace(heatmaps)
    maps, x, y = _flatten(heatmaps, locs)
    H, W = maps.shape[1:]
    if min(H, W) < 5:  # no cell lies inside
        return as_array(locs, like=as_float(maps[:0]))
    window, _, _ = _window(maps, x, y, 2, blur_kernel_size)
    dx, dy, dxx, dxy, dyy = _derivatives(xp.log(window.clip(LOWEST)))
    det = dxx * dyy - dxy * dxy
    step = xp.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1) / det[:, None]
    inside = (x > 1) & (x < W - 2) & (y > 1) & (y < H - 2)
    step = xp.where(inside[:, None] & is_finite(step), step, 0.0)
    return as_array(locs, like=step) + step.reshape(locs.shape)


def daec_radius(sigma: float) -> int:
    """Half width of DAEC's window in cells: 3 sigma and one more (DAEC, Section 3.3, step 2).

    Args:
        sigma (float): Standard deviation of the label in cells.

    Example:
        >>> daec_radius(2)
        7
    """
    return int(3 * sigma + 1)


def empirical_delta(sigma: float, smooth: bool) -> float:
    """The paper's empirical error-compensation factor in cells: sigma + 2, or sigma + 1 for
    smoothed maps (DAEC, Sections 3.3 and 4.5).

    Args:
        sigma (float): Standard deviation of the label in cells.
        smooth (bool): Whether the map is smoothed first.

    Example:
        >>> empirical_delta(2, smooth=False)
        4
    """
    return sigma + 1 if smooth else sigma + 2


def _widened_radius(sigma: float, delta: Delta) -> int:
    """Half width of a window that a negative factor widens."""
    # numpy where it can: reading a tensor waits for its device
    lowest = delta.min() if isinstance(delta, Tensor) else np.min(delta)
    return daec_radius(sigma) + max(0, -math.floor(lowest))


_MIRRORED_ONLY = dict(clip=False, symmetric=True)
_CUTS_UPPER = dict(br=(True, True), ur=(True, False), bl=(False, True), ul=(False, False))


def _daec_weights(offsets: Array, sigma: float, delta: Array, cut_upper: bool) -> Array:
    """Which cells along an axis count in DAEC's sums: 1 from -e to e - delta (mirrored for a cut
    of the lower bound), and a last one by its part, so that delta may be a fraction.

    Args:
        offsets (Array): Cells from the maximum, shape (M, w).
        sigma (float): Standard deviation of the label in cells; gives e.
        delta (Array): Error-compensation factors, shape (M,).
        cut_upper (bool): Whether the upper or the lower bound is cut.

    Returns:
        Array: Shape (M, w).

    Example:
        >>> offsets = np.array([[-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]])  # e = 2 for sigma 0.5
        >>> _daec_weights(offsets, 0.5, np.array([1.5]), True)
        array([[0. , 1. , 1. , 1. , 0.5, 0. , 0. ]])
    """
    e = daec_radius(sigma)
    outwards = offsets if cut_upper else -offsets
    return (e - delta[:, None] - outwards + 1).clip(0, 1) * (outwards >= -e)


def _is_mirrored(offsets: Array, locs: Array, size: int) -> Array:
    """Whether the map has each cell's mirror image about the maximum too, shape (M, w).

    Args:
        offsets (Array): Cells from the maximum, shape (M, w).
        locs (Array): Cells of the maxima, int64, shape (M,).
        size (int): Cells of the axis.
    """
    nearest_border = namespace(locs).minimum(locs, size - 1 - locs)
    return abs(offsets) <= nearest_border[:, None]


def decode_daec(
    heatmaps: Array,
    locs: Array,
    sigma: float,
    delta: Delta,
    corner: str = 'br',
    blur_kernel_size: int = 1,
    border: str = 'clip',
) -> Array:
    r"""Error-compensated decoding: the mean of a window that is cut at one corner (DAEC, Section
    3.2, Eq. 10).

    .. math::
        \mu = \frac{\sum_{x_1}^{x_2-\Delta} x f(x)}
                   {\sum_{x_1}^{x_2-\Delta} f(x)}

    along each axis, over the 2-D window that reaches ``e = int(3 sigma + 1)`` cells from the
    maximum m and is cut by Delta at its bottom-right corner. Where nothing is left of it, the
    maximum itself.

    The published window is clipped to the map, :math:`[\max(m - e, 0), \min(m + e - \Delta,
    L - 1)]` on an axis of L cells. Its mean is the centre of a peak only as long as both of the
    peak's tails are in it: r cells from the border the tail beyond is missing, and the mean of
    what is left of a Gaussian lies

    .. math:: \sigma \frac{\varphi(a)}{\Phi(a)}, \quad a = \frac{r + 1/2}{\sigma}

    too far inwards (the mean of a truncated normal distribution), 1.3 cells for sigma 2 in the
    last row, whatever Delta is. A window that reaches equally far on both sides moves no
    symmetric peak. So ``border='symmetric'`` ends both bounds at the distance to the nearest
    border, r = min(m, L - 1 - m), in place of the map:

    .. math:: [m - \min(e, r), \; m + \min(e - \Delta, r)]

    Delta still cuts the full window, not one that is shorter already: cut by Delta as well, that
    would be moved by a larger part the shorter it is. Where r is at least e and e - Delta, both
    are the same.

    Args:
        heatmaps (Array): Shape (..., H, W).
        locs (Array): Cells (x, y) of the maxima, int64, shape (..., 2).
        sigma (float): Standard deviation of the label in cells.
        delta (float | sequence | Array): Error-compensation factor in cells; may be fractional
            or negative. Several broadcast to (..., 2): one for x and one for y, and, for example,
            a row a keypoint. A tensor on a device is waited for, numbers on the host are not.
        corner (str): The corner that is cut (DAEC, Section 4.6): 'br' (the method) the upper
            bounds of x and y, 'ul' the lower bounds, 'ur' the upper of x and the lower of y,
            'bl' the lower of x and the upper of y.
        blur_kernel_size (int): Odd size of a Gaussian kernel that smooths the map first (DAEC,
            Section 4.5); 1 does not smooth.
        border (str): 'clip' (the method) ends the window at the map, 'symmetric' both its bounds
            at the distance to the nearest border.

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).

    Example:
        >>> heatmaps, _ = gaussian_heatmaps(torch.tensor([[2.3, 30.6]]), (48, 64), sigma=2)
        >>> locs, _ = heatmap_argmax(heatmaps)
        >>> decode_daec(heatmaps, locs, sigma=2, delta=0)
        tensor([[ 2.6205, 30.6010]])
        >>> decode_daec(heatmaps, locs, sigma=2, delta=0, border='symmetric')
        tensor([[ 2.1245, 30.6010]])
    """
    xp = namespace(heatmaps)
    maps, x, y = _flatten(heatmaps, locs)
    window, left, top = _window(maps, x, y, _widened_radius(sigma, delta), blur_kernel_size)
    f = window.clip(LOWEST)
    height, width = f.shape[1:]
    deltas = xp.broadcast_to(as_array(delta, like=f), locs.shape).reshape(-1, 2)
    offsets_x = as_array(left[:, None] + arange(width, left) - x[:, None], like=f)
    offsets_y = as_array(top[:, None] + arange(height, top) - y[:, None], like=f)
    upper_x, upper_y = _CUTS_UPPER[corner]
    weights_x = _daec_weights(offsets_x, sigma, deltas[:, 0], upper_x)
    weights_y = _daec_weights(offsets_y, sigma, deltas[:, 1], upper_y)
    if _MIRRORED_ONLY[border]:
        H, W = map(int, maps.shape[1:])
        weights_x = weights_x * _is_mirrored(offsets_x, x, W)
        weights_y = weights_y * _is_mirrored(offsets_y, y, H)
    columns = weights_x * (weights_y[:, None, :] @ f)[:, 0]  # sums of f along y, in the window
    rows = weights_y * (f @ weights_x[:, :, None])[:, :, 0]
    sums = xp.stack([(columns * offsets_x).sum(-1), (rows * offsets_y).sum(-1)], -1)
    mean = sums / columns.sum(-1)[:, None]
    mean = xp.where(is_finite(mean), mean, 0.0)
    return as_array(locs, like=mean) + mean.reshape(locs.shape)


def refine_dark_1d(vectors: Array, locs: Array, blur_kernel_size: int) -> Array:
    """:func:`refine_dark` along one axis, for SimCC probabilities.

    A step that would leave the axis is not taken.

    Args:
        vectors (Array): Not negative, shape (..., L).
        locs (Array): Bins of the maxima, int64, shape (...).
        blur_kernel_size (int): Odd size of the Gaussian kernel; 1 does not smooth.

    Returns:
        Array: Coordinates in bins, shape (...).

    Example:
        >>> label, = simcc_gaussian(torch.tensor([[20.3]]), (64,), (2,))
        >>> refine_dark_1d(label, vector_argmax(label)[0], blur_kernel_size=11)
        tensor([20.2998])
    """
    xp = namespace(vectors)
    L = int(vectors.shape[-1])
    x = locs.reshape(-1)
    if L < 5:  # no bin lies inside
        return as_array(locs, like=as_float(vectors[:0]))
    window, _ = _window_1d(vectors.reshape(-1, L), x, 2, blur_kernel_size)
    log = xp.log(window.clip(LOWEST))
    first = (log[:, 3] - log[:, 1]) / 2
    second = (log[:, 4] - 2 * log[:, 2] + log[:, 0]) / 4
    peak = as_array(x, like=log)
    refined = peak - first / second
    usable = (x > 1) & (x < L - 2) & (refined >= 0) & (refined <= L - 1)
    return xp.where(usable, refined, peak).reshape(locs.shape)


def decode_daec_1d(
    vectors: Array,
    locs: Array,
    sigma: float,
    delta: Delta,
    cut_upper: bool = True,
) -> Array:
    """:func:`decode_daec` along one axis, for SimCC probabilities.

    Args:
        vectors (Array): Not negative, shape (..., L).
        locs (Array): Bins of the maxima, int64, shape (...).
        sigma (float): Standard deviation of the label in bins.
        delta (float | sequence | Array): Error-compensation factor in bins, several broadcast to
            (...).
        cut_upper (bool): Whether the upper or the lower bound is cut.

    Returns:
        Array: Coordinates in bins, shape (...).

    Example:
        >>> label, = simcc_gaussian(torch.tensor([[20.3]]), (64,), (2,))
        >>> decode_daec_1d(label, vector_argmax(label)[0], sigma=2, delta=0)
        tensor([20.2993])
    """
    xp = namespace(vectors)
    L = int(vectors.shape[-1])
    x = locs.reshape(-1)
    window, left = _window_1d(vectors.reshape(-1, L), x, _widened_radius(sigma, delta))
    p = window.clip(LOWEST)
    offsets = as_array(left[:, None] + arange(p.shape[-1], left) - x[:, None], like=p)
    deltas = xp.broadcast_to(as_array(delta, like=p), locs.shape).reshape(-1)
    weighted = p * _daec_weights(offsets, sigma, deltas, cut_upper)
    mean = (weighted * offsets).sum(-1) / weighted.sum(-1)
    mean = xp.where(is_finite(mean), mean, 0.0)
    return as_array(locs, like=mean) + mean.reshape(locs.shape)
