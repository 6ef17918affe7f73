# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The windows around the maxima of heatmaps and vectors that sub-cell decoders read.

The windows of M maps have the shape (n, M) for vectors and (n, n, M) for heatmaps, rows along y and
columns along x. The maps come last because an operation on one position of all windows then reads
memory in one piece.
"""

import math
from typing import List, Sequence, Union

import numpy as np

from .arrays import Array, arange, as_array, as_float, namespace, take


class Axis:
    """The positions around each maximum along one axis.

    Args:
        locs (Array): Positions of the maxima, int64, shape (M,).
        size (int): Positions of the axis L.
        radius (int): Positions on each side of the maximum; n = 2 radius + 1.

    Attributes:
        offsets (Array): Offsets from the maximum, int64, shape (n, 1).
        positions (Array): The positions at these offsets, int64, shape (n, M); beyond the ends of
            the axis that of the maximum.
        exists (Array): Which offsets lead to a position on the axis, bool, shape (n, M).
        to_border (Array): Distance from each maximum to the nearer end, int64, shape (M,).
    """

    def __init__(self, locs: Array, size: int, radius: int) -> None:
        self.offsets = (arange(2 * radius + 1, locs) - radius)[:, None]
        positions = locs + self.offsets
        self.exists = (positions >= 0) & (positions < size)
        self.positions = locs + self.offsets * self.exists
        self.to_border = namespace(locs).minimum(locs, size - 1 - locs)


def read_window(
    maps: Array,
    locs: Sequence[Array],
    radius: int,
    blur_kernel_size: int = 1,
    border: str = 'clip',
) -> Array:
    """The responses around each maximum, of the smoothed maps (DARK, Eq. 10) if there is a kernel.
    Only the window is smoothed, not the whole map.

    Args:
        maps (Array): Vectors (M, L) or heatmaps (M, H, W).
        locs (sequence[Array]): Positions of the maxima along each axis, in the order of the
            maps' axes, int64, each of shape (M,).
        radius (int): Positions on each side of the maximum; n = 2 radius + 1.
        blur_kernel_size (int): Odd size of the Gaussian kernel; 1 does not smooth.
        border (str): See :func:`refine_dark`.

    Returns:
        Array: float32 or float64, shape (n, M) or (n, n, M). Do not use what lies beyond the ends
        of an axis.
    """
    reach = radius + blur_kernel_size // 2
    axes = [Axis(loc, size, reach) for loc, size in zip(locs, maps.shape[1:])]
    cells = math.prod(maps.shape[1:])
    index = axes[0].positions * (cells // maps.shape[1]) + cells * arange(maps.shape[0], locs[0])
    if len(axes) == 2:  # so far the first cells of rows
        index = index[:, None] + axes[1].positions
    window = as_float(take(maps.reshape(-1), index))
    if blur_kernel_size == 1:
        return window
    for axis in reversed(axes):  # x, then y; a swap each keeps the order of both
        window = _blur(window, axis, radius, blur_kernel_size, border).swapaxes(0, -2)
    return window


def _blur(window: Array, axis: Axis, radius: int, kernel_size: int, border: str) -> Array:
    """Smooth a window along its last axis but one, with zeros beyond the ends of the axis.

    Args:
        window (Array): Shape (..., n, M).
        axis (Axis): Its n positions.
        radius (int): Positions on each side of the maximum that the result has.
        kernel_size (int): Odd size of the Gaussian kernel.
        border (str): See :func:`refine_dark`.

    Returns:
        Array: Shape (..., 2 radius + 1, M).
    """
    window = window * as_array(axis.exists, like=window)
    weights = gaussian_kernel(kernel_size)[kernel_size // 2 :]
    if border == 'symmetric':
        reach = [as_array(radius + d <= axis.to_border, window) for d in range(1, len(weights))]
        weights[1:] = [weight * inside for weight, inside in zip(weights[1:], reach)]
    return _symmetric_sums(window, weights)


def _symmetric_sums(values: Array, weights: Sequence[Union[float, Array]]) -> Array:
    r"""Sums of neighbours along the last axis but one, weighted by their distance:
    :math:`w_0 v_i + \sum_{d \ge 1} w_d (v_{i - d} + v_{i + d})`.

    Args:
        values (Array): v, shape (..., n, M).
        weights (sequence): w, from the middle outwards: numbers, or arrays of shape (M,).

    Returns:
        Array: Those sums that have all of their neighbours, shape (..., n - 2 (len(w) - 1), M).

    Example:
        >>> _symmetric_sums(np.array([[1.0], [2.0], [4.0], [8.0]]), [0.5, 0.25])
        array([[2.25],
               [4.5 ]])
    """
    half = len(weights) - 1
    length = values.shape[-2] - 2 * half
    if isinstance(values, np.ndarray) and all(isinstance(weight, float) for weight in weights):
        # one product by a matrix takes a quarter of the loop's time
        kernel = np.array(weights[:0:-1] + weights, values.dtype)
        matrix = np.zeros((length, values.shape[-2]), values.dtype)
        for i in range(length):
            matrix[i, i : i + len(kernel)] = kernel
        return matrix @ values
    sums = weights[0] * values[..., half : half + length, :]
    for d, weight in enumerate(weights[1:], 1):
        before, after = values[..., half - d :, :], values[..., half + d :, :]
        pair = before[..., :length, :] + after[..., :length, :]
        pair *= weight  # in place: a batch is bound by memory
        sums += pair
    return sums


def gaussian_kernel(size: int) -> List[float]:
    """OpenCV's Gaussian of an odd size, ``cv2.getGaussianKernel(size, -1)``. In Python alone, so
    that torch.compile can read it."""
    small = {  # OpenCV has these in tables
        1: [1],
        3: [1, 2, 1],
        5: [1, 4, 6, 4, 1],
        7: [4, 14, 28, 36, 28, 14, 4],
        9: [4, 13, 30, 51, 60, 51, 30, 13, 4],
    }
    half = size // 2
    sigma = 0.3 * (half - 1) + 0.8
    gaussian = [math.exp(-((i - half) ** 2) / (2 * sigma**2)) for i in range(size)]
    weights = small.get(size, gaussian)
    total = sum(weights)
    return [weight / total for weight in weights]
