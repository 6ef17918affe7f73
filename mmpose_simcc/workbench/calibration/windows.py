# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""DAEC at many factors from one look at each window.

The window around a maximum is all that DAEC reads of a heatmap. Its prefix
sums, of weight and of weight times offset, give the answer for any factor in
a few look-ups: a whole factor ends a sum at a cell, a fractional one takes
the last cell by its part, which is linear interpolation between two sums.
"""

from typing import NamedTuple

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

from ...functional.decode import LOWEST, daec_radius

# signs of the offsets along x and y that turn a corner into 'br'
_CORNER_SIGNS = dict(br=(1, 1), ur=(1, -1), bl=(-1, 1), ul=(-1, -1))


def smooth_heatmaps(heatmaps: Tensor, blur_kernel_size: int) -> Tensor:
    """Blur with OpenCV's Gaussian of that size and zeros around the map, as
    ``DAECCodec(smooth=True)`` does (DAEC, Section 4.5).

    Args:
        heatmaps (Tensor): Shape (M, H, W).
        blur_kernel_size (int): Odd size of the kernel.

    Returns:
        Tensor: Shape (M, H, W).
    """
    kernel = torch.from_numpy(cv2.getGaussianKernel(blur_kernel_size, -1))
    kernel = kernel.to(heatmaps).view(1, 1, -1, 1)
    half = blur_kernel_size // 2
    blurred = F.conv2d(heatmaps.unsqueeze(1), kernel, padding=(half, 0))
    blurred = F.conv2d(blurred, kernel.transpose(2, 3), padding=(0, half))
    return blurred.squeeze(1)


def extract_windows(heatmaps: Tensor, locs: Tensor, half_width: int) -> Tensor:
    """The square around each maximum.

    Args:
        heatmaps (Tensor): Shape (M, H, W).
        locs (Tensor): Cells (x, y) of the maxima, int64, shape (M, 2).
        half_width (int): Cells on each side of the maximum.

    Returns:
        Tensor: Shape (M, S, S), rows along y, with S = 2 half_width + 1; 0 off
        the map.
    """
    padded = F.pad(heatmaps, (half_width,) * 4)
    steps = torch.arange(2 * half_width + 1, device=heatmaps.device)
    maps = torch.arange(len(heatmaps), device=heatmaps.device)
    x, y = locs.unbind(-1)
    return padded[maps[:, None, None], y[:, None, None] + steps[:, None], x[:, None, None] + steps]


def extract_windows_1d(vectors: Tensor, locs: Tensor, half_width: int) -> Tensor:
    """:func:`extract_windows` along one axis.

    Args:
        vectors (Tensor): Shape (M, L).
        locs (Tensor): Bins of the maxima, int64, shape (M,).
        half_width (int): Bins on each side of the maximum.

    Returns:
        Tensor: Shape (M, S); 0 beyond the ends.
    """
    steps = torch.arange(2 * half_width + 1, device=vectors.device)
    return F.pad(vectors, (half_width, half_width)).gather(-1, locs[:, None] + steps)


class WindowSums(NamedTuple):
    """Prefix sums of windows, ready for any factor.

    Attributes:
        sums (Tensor): Shape (M, C, n + 1, n + 1) as (row, column), or
            (M, C, n + 1) along one axis. Entry i of an axis sums its first i
            cells. C are the weights and their products with the offset along
            x and y.
        radius (int): Reach of the uncut window.
        signs (Tensor): 1, or -1 for a mirrored axis, shape (2,) or (1,).
    """

    sums: Tensor
    radius: int
    signs: Tensor

    def position(self, delta: Tensor) -> Tensor:
        """How many cells of an axis a factor leaves, fractional."""
        last = self.sums.shape[-1] - 1
        return (2 * self.radius + 1 - delta).clamp(0, last)


def _on_map(locs: Tensor, size: int, half_width: int, border: str = 'clip') -> Tensor:
    """Which cells of a window count along one axis, (M, S): those on the map,
    and with a symmetric border only where their mirror images are too."""
    steps = torch.arange(-half_width, half_width + 1, device=locs.device)
    cells = locs.unsqueeze(-1) + steps
    on_map = (cells >= 0) & (cells < size)
    return on_map & on_map.flip(-1) if border == 'symmetric' else on_map


def window_sums(
    windows: Tensor,
    locs: Tensor,
    peaks: Tensor,
    heatmap_size: tuple,
    sigma: float,
    corner: str = 'br',
    border: str = 'clip',
) -> WindowSums:
    """Prefix sums of windows, for :func:`decode_windows`.

    Args:
        windows (Tensor): Relative to the peak, see :func:`extract_windows`;
            shape (M, S, S).
        locs (Tensor): Cells (x, y) of the maxima, shape (M, 2).
        peaks (Tensor): What the windows were divided by, shape (M,).
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation of the label in cells.
        corner (str): The corner that is cut: 'br', 'ur', 'bl' or 'ul'.
        border (str): 'clip' or 'symmetric'.

    Returns:
        WindowSums: Those of two axes.
    """
    W, H = heatmap_size
    radius, half_width = daec_radius(sigma), windows.shape[-1] // 2
    columns_on = _on_map(locs[:, 0], W, half_width, border)
    rows_on = _on_map(locs[:, 1], H, half_width, border)
    # below the floor no response counts, see functional.decode
    values = torch.maximum(windows, (LOWEST / peaks).view(-1, 1, 1))
    values = values * (rows_on.unsqueeze(2) & columns_on.unsqueeze(1))
    signs = _CORNER_SIGNS[corner]
    flipped = [dim for dim, sign in zip((2, 1), signs) if sign < 0]
    values = values.flip(flipped)
    values = values[:, half_width - radius :, half_width - radius :]
    steps = torch.arange(-radius, half_width + 1, device=values.device, dtype=values.dtype)
    values = torch.stack([values, values * steps, values * steps[:, None]], dim=1)
    sums = F.pad(values.cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    return WindowSums(sums, radius, values.new_tensor(signs))


def window_sums_1d(
    windows: Tensor, locs: Tensor, peaks: Tensor, num_bins: int, sigma: float
) -> WindowSums:
    """:func:`window_sums` along one axis.

    Args:
        windows (Tensor): Relative to the peak, shape (M, S).
        locs (Tensor): Bins of the maxima, shape (M,).
        peaks (Tensor): What the windows were divided by, shape (M,).
        num_bins (int): Length of the axis in bins.
        sigma (float): Standard deviation of the label in bins.

    Returns:
        WindowSums: Those of one axis.
    """
    radius, half_width = daec_radius(sigma), windows.shape[-1] // 2
    values = torch.maximum(windows, (LOWEST / peaks).unsqueeze(-1))
    values = values * _on_map(locs, num_bins, half_width)
    values = values[:, half_width - radius :]
    steps = torch.arange(-radius, half_width + 1, device=values.device, dtype=values.dtype)
    values = torch.stack([values, values * steps], dim=1)
    sums = F.pad(values.cumsum(-1), (1, 0))
    return WindowSums(sums, radius, values.new_ones(1))


def _interpolate(sums: Tensor, positions: Tensor, dim: int) -> Tensor:
    """Linear interpolation along one axis of prefix sums.

    Args:
        sums (Tensor): Shape (M, C, n + 1, ...).
        positions (Tensor): In [0, n], shape (M or 1, D).
        dim (int): The axis.

    Returns:
        Tensor: The axis has length D.
    """
    below = positions.floor().clamp(max=sums.shape[dim] - 2)
    part = positions - below
    shape = [1] * sums.ndim
    shape[0], shape[dim] = positions.shape
    full = list(sums.shape)
    full[dim] = positions.shape[1]
    index = below.long().view(shape).expand(full)
    low, high = sums.gather(dim, index), sums.gather(dim, index + 1)
    return torch.lerp(low, high, part.view(shape).to(sums.dtype))


def _means(sums: Tensor, signs: Tensor) -> Tensor:
    """Offsets from sums (M, C, ...): shape (M, ..., C - 1), 0 where nothing
    is left of the window."""
    means = (sums[:, 1:] / sums[:, :1]).movedim(1, -1) * signs
    return torch.where(means.isfinite(), means, torch.zeros_like(means))


def decode_grid(windows: WindowSums, deltas: Tensor) -> Tensor:
    """Offsets from the maximum for every pair of factors.

    Args:
        windows (WindowSums): Those of two axes.
        deltas (Tensor): Factors in cells, shape (D,).

    Returns:
        Tensor: Offsets (x, y) in cells, shape (M, D, D, 2); the first D is
        the factor along x.
    """
    positions = windows.position(deltas)[None]
    sums = _interpolate(windows.sums, positions, dim=3)
    sums = _interpolate(sums, positions, dim=2)
    return _means(sums.transpose(2, 3), windows.signs)


def decode_windows(windows: WindowSums, deltas: Tensor) -> Tensor:
    """Offsets from the maximum for chosen factors, equal to those of
    :func:`~mmpose_simcc.functional.decode_daec`.

    Args:
        windows (WindowSums): Those of two axes.
        deltas (Tensor): Factors (x, y) in cells, shape (M or 1, D, 2).

    Returns:
        Tensor: Offsets (x, y) in cells, shape (M, D, 2).
    """
    M, C, size, _ = windows.sums.shape
    positions = windows.position(deltas)
    below = positions.floor().clamp(max=size - 2)
    part_x, part_y = (positions - below).expand(M, -1, -1).unbind(-1)
    x, y = below.long().expand(M, -1, -1).unbind(-1)
    cells = windows.sums.flatten(2)

    def at(x: Tensor, y: Tensor) -> Tensor:
        index = (y * size + x).unsqueeze(1).expand(-1, C, -1)
        return cells.gather(2, index)

    part_x, part_y = part_x.unsqueeze(1), part_y.unsqueeze(1)
    sums = torch.lerp(
        torch.lerp(at(x, y), at(x + 1, y), part_x),
        torch.lerp(at(x, y + 1), at(x + 1, y + 1), part_x),
        part_y,
    )
    return _means(sums, windows.signs)


def decode_windows_1d(windows: WindowSums, deltas: Tensor) -> Tensor:
    """:func:`decode_windows` along one axis, equal to
    :func:`~mmpose_simcc.functional.decode_daec_1d`.

    Args:
        windows (WindowSums): Those of one axis.
        deltas (Tensor): Factors in bins, shape (M or 1, D).

    Returns:
        Tensor: Offsets in bins, shape (M, D).
    """
    sums = _interpolate(windows.sums, windows.position(deltas), dim=2)
    return _means(sums, windows.signs).squeeze(-1)
