# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Labels and decoders as loops over keypoints, the way in which the papers'
code computes them: peers of the benchmark, written after the papers."""

from typing import Tuple

import cv2
import numpy as np


def _maxima(heatmaps: np.ndarray) -> np.ndarray:
    """Cells (x, y) of the maxima as float32, shape (B, K, 2)."""
    B, K, H, W = heatmaps.shape
    index = heatmaps.reshape(B, K, -1).argmax(-1)
    return np.stack([index % W, index // W], -1).astype(np.float32)


def decode_quarter(heatmaps: np.ndarray) -> np.ndarray:
    """A quarter of a cell towards the larger neighbour (HRNet).

    Args:
        heatmaps (np.ndarray): Shape (B, K, H, W).

    Returns:
        np.ndarray: Coordinates in cells, shape (B, K, 2).
    """
    B, K, H, W = heatmaps.shape
    points = _maxima(heatmaps)
    for b in range(B):
        for k in range(K):
            heatmap = heatmaps[b, k]
            x, y = points[b, k].astype(int)
            if 1 < x < W - 1 and 1 < y < H - 1:
                points[b, k] += 0.25 * np.sign(
                    [heatmap[y, x + 1] - heatmap[y, x - 1], heatmap[y + 1, x] - heatmap[y - 1, x]]
                )
    return points


def decode_dark(heatmaps: np.ndarray, blur_kernel_size: int) -> np.ndarray:
    """Distribution-aware decoding (DARK, Eq. 9 to 11).

    Args:
        heatmaps (np.ndarray): Shape (B, K, H, W).
        blur_kernel_size (int): Odd size of the Gaussian kernel.

    Returns:
        np.ndarray: Coordinates in cells, shape (B, K, 2).
    """
    B, K, H, W = heatmaps.shape
    points = _maxima(heatmaps)
    for b in range(B):
        for k in range(K):
            heatmap = heatmaps[b, k]
            blurred = cv2.GaussianBlur(
                heatmap, (blur_kernel_size,) * 2, 0, borderType=cv2.BORDER_CONSTANT
            )
            blurred *= heatmap.max() / blurred.max()
            log = np.log(np.maximum(blurred, 1e-10))
            x, y = points[b, k].astype(int)
            if not (1 < x < W - 2 and 1 < y < H - 2):
                continue
            gradient = 0.5 * np.array(
                [log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]
            )
            dxx = 0.25 * (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2])
            dyy = 0.25 * (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x])
            dxy = 0.25 * (
                log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]
            )
            if dxx * dyy != dxy**2:
                hessian = np.array([[dxx, dxy], [dxy, dyy]])
                points[b, k] -= np.linalg.inv(hessian) @ gradient
    return points


def decode_daec(heatmaps: np.ndarray, sigma: float, delta: int) -> np.ndarray:
    """Error-compensated decoding, cut at the upper bounds (DAEC, Section 3).

    Args:
        heatmaps (np.ndarray): Shape (B, K, H, W).
        sigma (float): Standard deviation of the label in cells.
        delta (int): Error-compensation factor.

    Returns:
        np.ndarray: Coordinates in cells, shape (B, K, 2).
    """
    B, K, H, W = heatmaps.shape
    points = _maxima(heatmaps)
    reach = int(3 * sigma + 1)
    for b in range(B):
        for k in range(K):
            x, y = points[b, k].astype(int)
            columns = np.arange(max(0, x - reach), min(W, x + reach - delta + 1))
            rows = np.arange(max(0, y - reach), min(H, y + reach - delta + 1))
            weights = np.maximum(
                heatmaps[b, k, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1e-10
            )
            points[b, k] = [
                (weights * columns).sum(),
                (weights * rows[:, None]).sum(),
            ] / weights.sum()
    return points


def encode_biased(
    keypoints: np.ndarray, cell: np.ndarray, heatmap_size: Tuple[int, int], sigma: float
) -> Tuple[np.ndarray]:
    """A Gaussian patch pasted around the nearest cell (HRNet).

    Args:
        keypoints (np.ndarray): In pixels, shape (K, 2).
        cell (np.ndarray): Width and height of a cell in pixels.
        heatmap_size (tuple): (W, H).
        sigma (float): Standard deviation in cells.

    Returns:
        tuple[np.ndarray]: Heatmaps, shape (K, H, W).
    """
    W, H = heatmap_size
    cells = keypoints / cell
    heatmaps = np.zeros((len(cells), H, W), np.float32)
    reach = int(3 * sigma)
    for heatmap, (x, y) in zip(heatmaps, (cells + 0.5).astype(int)):
        if x + reach < 0 or y + reach < 0 or x - reach >= W or y - reach >= H:
            continue
        offsets = np.arange(-reach, reach + 1, dtype=np.float32)
        patch = np.exp(-(offsets**2 + offsets[:, None] ** 2) / (2 * sigma**2))
        left, top = max(0, x - reach), max(0, y - reach)
        right, bottom = min(W, x + reach + 1), min(H, y + reach + 1)
        heatmap[top:bottom, left:right] = patch[
            top - y + reach : bottom - y + reach, left - x + reach : right - x + reach
        ]
    return (heatmaps,)


def encode_unbiased(
    keypoints: np.ndarray, cell: np.ndarray, heatmap_size: Tuple[int, int], sigma: float
) -> Tuple[np.ndarray]:
    """The whole Gaussian around the keypoint itself (DARK, Eq. 14).

    Args:
        keypoints (np.ndarray): In pixels, shape (K, 2).
        cell (np.ndarray): Width and height of a cell in pixels.
        heatmap_size (tuple): (W, H).
        sigma (float): Standard deviation in cells.

    Returns:
        tuple[np.ndarray]: Heatmaps, shape (K, H, W).
    """
    W, H = heatmap_size
    cells = keypoints / cell
    heatmaps = np.zeros((len(cells), H, W), np.float32)
    columns = np.arange(W, dtype=np.float32)
    rows = np.arange(H, dtype=np.float32)[:, None]
    for heatmap, (x, y) in zip(heatmaps, cells):
        heatmap[:] = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return (heatmaps,)


def encode_simcc(
    keypoints: np.ndarray, simcc_split_ratio: float, num_bins: Tuple[int, int], sigma: float
) -> Tuple[np.ndarray, np.ndarray]:
    """Gaussian labels along both axes (SimCC, Section 3).

    Args:
        keypoints (np.ndarray): In pixels, shape (K, 2).
        simcc_split_ratio (float): Bins a pixel.
        num_bins (tuple): Bins along x and y.
        sigma (float): Standard deviation in bins.

    Returns:
        tuple[np.ndarray]: Shapes (K, num_bins[0]) and (K, num_bins[1]).
    """
    labels = tuple(np.zeros((len(keypoints), number), np.float32) for number in num_bins)
    positions = [np.arange(number, dtype=np.float32) for number in num_bins]
    for k, point in enumerate(keypoints * simcc_split_ratio):
        for axis in range(2):
            labels[axis][k] = np.exp(-((positions[axis] - point[axis]) ** 2) / (2 * sigma**2)) / (
                sigma * np.sqrt(2 * np.pi)
            )
    return labels
