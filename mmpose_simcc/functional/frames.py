# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Coordinate frames: pixels of the input image, cells of a heatmap, bins of an axis."""

from typing import Tuple

import numpy as np

from .arrays import Array, as_array


def cell_pitch(
    input_size: Tuple[int, int], heatmap_size: Tuple[int, int], use_udp: bool = False
) -> np.ndarray:
    r"""Pixels from one heatmap cell to the next, along x and y.

    Cell i lies at pixel :math:`i\,w / W`, as in MMPose's plain pipelines, or, in the frame of
    unbiased data processing (UDP, Section 3.2), at pixel :math:`i\,(w - 1) / (W - 1)`.

    Args:
        input_size (tuple): Image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells; with ``use_udp`` at least 2.
        use_udp (bool): Whether the pipeline's ``TopdownAffine`` has ``use_udp``.

    Returns:
        np.ndarray: float32, shape (2,).

    Example:
        >>> cell_pitch((192, 256), (48, 64))
        array([4., 4.], dtype=float32)
    """
    corner = 1 if use_udp else 0
    return ((np.array(input_size) - corner) / (np.array(heatmap_size) - corner)).astype(np.float32)


def decoded_cell_pitch(
    input_size: Tuple[int, int], heatmap_size: Tuple[int, int], use_udp: bool = False
) -> np.ndarray:
    r"""What a decoder multiplies cells by, along x and y.

    MMPose maps a decoded pixel p to the picture as the part p / w of the box that was cut out.
    That is where :func:`cell_pitch` puts it without UDP. A UDP crop ends with its last pixel at
    the end of the box, so that pixel p lies at p / (w - 1) of it: a cell is decoded to
    :math:`i\,w / (W - 1)`, as by MMPose's ``UDPHeatmap``, and the keypoint in the picture is
    exact.

    Args:
        input_size (tuple): Image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells; with ``use_udp`` at least 2.
        use_udp (bool): Whether the pipeline's ``TopdownAffine`` has ``use_udp``.

    Returns:
        np.ndarray: float32, shape (2,).

    Example:
        >>> decoded_cell_pitch((188, 252), (48, 64), use_udp=True)
        array([4., 4.], dtype=float32)
    """
    corner = 1 if use_udp else 0
    return (np.array(input_size) / (np.array(heatmap_size) - corner)).astype(np.float32)


def decoded_bins_per_pixel(
    input_size: Tuple[int, int], split_ratio: float, use_udp: bool = False
) -> np.ndarray:
    r"""What a decoder divides SimCC bins by, along x and y.

    Bin b lies at pixel b / k in every crop; see :func:`decoded_cell_pitch` for what MMPose makes
    of a pixel. So this is k, and :math:`k\,(w - 1) / w` for a UDP crop.

    Args:
        input_size (tuple): Image size (w, h) in pixels; with ``use_udp`` at least 2.
        split_ratio (float): Bins a pixel k.
        use_udp (bool): Whether the pipeline's ``TopdownAffine`` has ``use_udp``.

    Returns:
        np.ndarray: float32, shape (2,).

    Example:
        >>> decoded_bins_per_pixel((64, 64), 2)
        array([2., 2.], dtype=float32)
        >>> decoded_bins_per_pixel((64, 128), 2, use_udp=True)
        array([1.96875 , 1.984375], dtype=float32)
    """
    size = np.array(input_size)
    corner = 1 if use_udp else 0
    return (split_ratio * (size - corner) / size).astype(np.float32)


def pixels_to_cells(pixels: Array, pitch: np.ndarray) -> Array:
    """Pixels to heatmap cells.

    Args:
        pixels (Array): Coordinates (x, y) in input pixels, shape (..., 2).
        pitch (np.ndarray): See :func:`cell_pitch`.

    Returns:
        Array: Coordinates in cells, shape (..., 2).

    Example:
        >>> pixels_to_cells(np.array([10.0, 6.0]), np.array([4, 4]))
        array([2.5, 1.5])
    """
    return pixels / as_array(pitch, like=pixels)


def cells_to_pixels(cells: Array, pitch: np.ndarray) -> Array:
    """Heatmap cells to pixels.

    Args:
        cells (Array): Coordinates (x, y) in cells, shape (..., 2).
        pitch (np.ndarray): See :func:`decoded_cell_pitch`.

    Returns:
        Array: Coordinates in input pixels, shape (..., 2).

    Example:
        >>> cells_to_pixels(np.array([2.5, 1.5]), np.array([4, 4]))
        array([10.,  6.])
    """
    return cells * as_array(pitch, like=cells)


def pixels_to_bins(pixels: Array, split_ratio: float) -> Array:
    """Pixels to SimCC bins: pixel x lies at bin x k (SimCC, Section 3).

    Args:
        pixels (Array): Coordinates in input pixels, any shape.
        split_ratio (float): Bins a pixel k.

    Returns:
        Array: Coordinates in bins, not rounded, same shape.

    Example:
        >>> pixels_to_bins(np.array([10.3, 6.0]), 2)
        array([20.6, 12. ])
    """
    return pixels * split_ratio


def bins_to_pixels(bins: Array, bins_per_pixel: np.ndarray) -> Array:
    """SimCC bins to pixels.

    Args:
        bins (Array): Coordinates (x, y) in bins, shape (..., 2).
        bins_per_pixel (np.ndarray): See :func:`decoded_bins_per_pixel`.

    Returns:
        Array: Coordinates in input pixels, shape (..., 2).

    Example:
        >>> bins_to_pixels(np.array([21.0, 12.0]), np.array([2, 2]))
        array([10.5,  6. ])
    """
    return bins / as_array(bins_per_pixel, like=bins)
