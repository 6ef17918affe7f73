# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""DAEC at many factors from one look at each window.

The window around a maximum is all that DAEC reads of a heatmap. A factor says
how much of each column and of each row counts: all, the last one by the
fractional part, nothing beyond. The sums for many factors are then products
of matrices.
"""

import math
from typing import NamedTuple, Tuple

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

from ...functional.decode import LOWEST, daec_radius

# which end of the window a corner cuts along x and y
_CUT_ENDS = dict(br=(1, 1), ur=(1, -1), bl=(-1, 1), ul=(-1, -1))


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


def smooth_windows(
    windows: Tensor, locs: Tensor, size: Tuple[int, int], blur_kernel_size: int
) -> Tensor:
    """The windows of a map that was smoothed by OpenCV's Gaussian, with zeros around it, as
    ``DAECCodec(smooth=True)`` does (DAEC, Section 4.5). The rest of the map is not smoothed.

    Args:
        windows (Tensor): See :func:`extract_windows`, shape (M, S, S).
        locs (Tensor): Cells (x, y) of the maxima, int64, shape (M, 2).
        size (tuple): Heatmap size (W, H).
        blur_kernel_size (int): Odd size of the kernel.

    Returns:
        Tensor: Smaller by half a kernel on each side; 0 off the map.
    """
    kernel = torch.from_numpy(cv2.getGaussianKernel(blur_kernel_size, -1)[:, 0]).to(windows)
    cells = windows.shape[-1] - blur_kernel_size + 1
    # row i has the kernel's weights around cell i of the smaller window
    blur = torch.stack([F.pad(kernel, (i, cells - 1 - i)) for i in range(cells)])
    positions = locs[..., None] + torch.arange(cells, device=locs.device) - cells // 2
    on_map = (positions >= 0) & (positions < torch.tensor(size, device=locs.device)[:, None])
    return blur @ windows @ blur.T * on_map[:, 1, :, None] * on_map[:, 0, None]


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


class Windows(NamedTuple):
    """Windows that wait for a factor.

    Attributes:
        values (Tensor): What the cells weigh, shape (M, S, S) as (row,
            column), or (M, S) along one axis.
        radius (int): Cells of an axis before the maximum that count.
    """

    values: Tensor
    radius: int

    @property
    def steps(self) -> Tensor:
        """Offsets of an axis' cells from the maximum, shape (S,)."""
        half_width = self.values.shape[-1] // 2
        return torch.arange(-half_width, half_width + 1.0, device=self.values.device)

    def cover(self, deltas: Tensor) -> Tensor:
        """How much of each cell of an axis counts, (..., S) for factors
        (...)."""
        last = self.radius + 1 - deltas.to(self.values)
        return (last.unsqueeze(-1) - self.steps).clamp(0, 1) * (self.steps >= -self.radius)

    def sums(self, deltas: Tensor, corner: str) -> Tuple[Tensor, Tensor, Tensor]:
        """Of windows of two axes, for every pair of factors (D,): the sum of
        the cells, that of their offsets along x, and along y; each of shape
        (M, D, D), the first D along x."""
        D = len(deltas)
        cover = self.cover(deltas)
        sides = []
        for end in _CUT_ENDS[corner]:
            cut = cover if end > 0 else cover.flip(-1)
            sides.append(torch.cat([cut, cut * self.steps]).mT)  # (S, 2 D)
        sums = (self.values @ sides[0]).mT @ sides[1]  # (M, 2 D along x, 2 D along y)
        return sums[:, :D, :D], sums[:, D:, :D], sums[:, :D, D:]


def _on_map(locs: Tensor, size: int, half_width: int, border: str = 'clip') -> Tensor:
    """Which cells of a window count along one axis, (M, S): those on the map,
    and with a symmetric border only where their mirror images are too."""
    steps = torch.arange(-half_width, half_width + 1, device=locs.device)
    cells = locs.unsqueeze(-1) + steps
    on_map = (cells >= 0) & (cells < size)
    return on_map & on_map.flip(-1) if border == 'symmetric' else on_map


def weigh_windows(
    windows: Tensor,
    locs: Tensor,
    peaks: Tensor,
    heatmap_size: tuple,
    sigma: float,
    border: str = 'clip',
) -> Windows:
    """What the cells of windows weigh, for :func:`decode_windows`.

    Args:
        windows (Tensor): Relative to the peak, see :func:`extract_windows`;
            shape (M, S, S).
        locs (Tensor): Cells (x, y) of the maxima, shape (M, 2).
        peaks (Tensor): What the windows were divided by, shape (M,).
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation of the label in cells.
        border (str): 'clip' or 'symmetric'.

    Returns:
        Windows: Those of two axes.
    """
    W, H = heatmap_size
    half_width = windows.shape[-1] // 2
    columns_on = _on_map(locs[:, 0], W, half_width, border)
    rows_on = _on_map(locs[:, 1], H, half_width, border)
    # below the floor no response counts, see functional.decode
    values = torch.maximum(windows, (LOWEST / peaks).view(-1, 1, 1))
    # floats, since a product with bools is slow; in place, since memory is
    values *= rows_on.to(values).unsqueeze(2)
    values *= columns_on.to(values).unsqueeze(1)
    return Windows(values, daec_radius(sigma))


def weigh_windows_1d(
    windows: Tensor, locs: Tensor, peaks: Tensor, num_bins: int, sigma: float
) -> Windows:
    """What the cells along one axis weigh, for :func:`decode_windows_1d`.

    Args:
        windows (Tensor): Relative to the peak, shape (M, S).
        locs (Tensor): Bins of the maxima, shape (M,).
        peaks (Tensor): What the windows were divided by, shape (M,).
        num_bins (int): Length of the axis in bins.
        sigma (float): Standard deviation of the label in bins.

    Returns:
        Windows: Those of one axis.
    """
    values = torch.maximum(windows, (LOWEST / peaks).unsqueeze(-1))
    values *= _on_map(locs, num_bins, windows.shape[-1] // 2)
    return Windows(values, daec_radius(sigma))


def _means(total: Tensor, *weighted: Tensor) -> Tensor:
    """Mean offsets along each axis, 0 where nothing is left of a window.

    Args:
        total (Tensor): Sums of windows, shape (...).
        weighted (Tensor): Sums of their offsets along each axis.

    Returns:
        Tensor: One axis after the other, shape (axes, ...).
    """
    means = total.new_empty(len(weighted), *total.shape)
    for mean, sums in zip(means, weighted):
        torch.div(sums, total, out=mean)
    return means.nan_to_num_(0.0, 0.0, 0.0)


def decode_grid(windows: Windows, deltas: Tensor, corner: str = 'br') -> Tensor:
    """Offsets from the maximum for every pair of factors.

    Args:
        windows (Windows): Those of two axes.
        deltas (Tensor): Factors in cells, shape (D,).
        corner (str): The corner that is cut: 'br', 'ur', 'bl' or 'ul'.

    Returns:
        Tensor: Offsets (x, y) in cells, shape (2, M, D, D); the first D is
        the factor along x.
    """
    return _means(*windows.sums(deltas, corner))


def decode_windows(windows: Windows, deltas: Tensor, corner: str = 'br') -> Tensor:
    """Offsets from the maximum for chosen factors, equal to those of
    :func:`~mmpose_simcc.functional.decode_daec`.

    Between whole factors the last column and row count by a fraction, so a
    sum is bilinear there: a window is summed for whole ones alone.

    Args:
        windows (Windows): Those of two axes.
        deltas (Tensor): Factors (x, y) in cells, shape (M or 1, D, 2).
        corner (str): See :func:`decode_grid`.

    Returns:
        Tensor: Offsets (x, y) in cells, shape (2, M, D).
    """
    first, last = math.floor(deltas.min()), math.ceil(deltas.max())
    whole = torch.arange(first, last + 1, device=deltas.device)
    near = (1 - (deltas.unsqueeze(-1) - whole).abs()).clamp(min=0)  # (M or 1, D, 2, N)
    weights = (near[:, :, 0, :, None] * near[:, :, 1, None, :]).flatten(2).mT  # (.., N * N, D)
    weights = weights[0] if len(weights) == 1 else weights  # one product of large matrices
    sums = torch.stack(windows.sums(whole, corner), dim=1).flatten(2) @ weights  # (M, 3, D)
    return _means(*sums.unbind(1))


def decode_windows_1d(windows: Windows, deltas: Tensor) -> Tensor:
    """:func:`decode_windows` along one axis, equal to
    :func:`~mmpose_simcc.functional.decode_daec_1d`.

    Args:
        windows (Windows): Those of one axis.
        deltas (Tensor): Factors in bins, shape (M or 1, D).

    Returns:
        Tensor: Offsets in bins, shape (M, D).
    """
    weights = windows.cover(deltas) * windows.values.unsqueeze(1)
    return _means(weights.sum(-1), (weights * windows.steps).sum(-1))[0]
