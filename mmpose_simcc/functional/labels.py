# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Labels: keypoint coordinates to heatmaps and to SimCC vectors.

Pure functions of tensors, batched over every leading dimension, on the
tensors' own device. Heatmap coordinates are in cells (cell ``i`` lies at
pixel ``i * stride``), SimCC coordinates in bins (pixel ``x`` lies at bin
``x * k``).
"""
import math
from typing import Tuple

import torch
from torch import Tensor


def _gaussian(positions: Tensor, centers: Tensor, sigma: float) -> Tensor:
    """exp(-(positions - centers)^2 / (2 sigma^2)), shape (..., P)."""
    offsets = positions - centers.unsqueeze(-1)
    return offsets.square_().mul_(-0.5 / sigma**2).exp_()


def heatmap_in_reach(keypoints: Tensor, heatmap_size: Tuple[int, int],
                     sigma: float, unbiased: bool) -> Tensor:
    """Which keypoints have a Gaussian that reaches into the heatmap.

    The window of 3 sigma around the centre has to touch the map, by the same
    rule as MMPose's ``MSRAHeatmap``.

    Args:
        keypoints (Tensor): Coordinates in heatmap cells, shape (..., 2).
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.
        unbiased (bool): Whether the centre is kept or rounded to a cell.

    Returns:
        Tensor: Bool, shape (...). False for NaN coordinates.
    """
    centers = keypoints if unbiased else round_to_cell(keypoints)
    radius = 3 * sigma
    size = keypoints.new_tensor(heatmap_size)
    return ((centers - radius < size)
            & (centers + radius + 1 >= 0)).all(dim=-1)


def round_to_cell(keypoints: Tensor) -> Tensor:
    """The nearest cell: the biased centre (DARK, Section 3.2, Eq. 13).

    Like MMPose, a coordinate in (-1.5, -0.5) cells goes to cell 0.
    """
    return torch.trunc(keypoints + 0.5)


def gaussian_heatmaps(keypoints: Tensor,
                      heatmap_size: Tuple[int, int],
                      sigma: float,
                      unbiased: bool = True) -> Tensor:
    r"""Gaussian heatmaps with a peak of 1 (DARK, Section 3.2, Eq. 14).

    .. math::
        G(x, y) = \exp\left(-\frac{(x-u)^2 + (y-v)^2}{2\sigma^2}\right)

    Args:
        keypoints (Tensor): Coordinates (u, v) in heatmap cells, shape
            (..., 2), finite.
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.
        unbiased (bool): Keep the sub-cell centre (DARK's unbiased encoding)
            and the whole Gaussian. Otherwise the centre is rounded to a cell
            and the Gaussian is cut at 3 sigma, as the standard (biased)
            encoding does.

    Returns:
        Tensor: Heatmaps in [0, 1], shape (..., H, W).

    Example:
        >>> gaussian_heatmaps(torch.tensor([[2., 1.]]), (5, 4), 1.0).shape
        torch.Size([1, 4, 5])
    """
    W, H = heatmap_size
    centers = keypoints if unbiased else round_to_cell(keypoints)
    # exp(a + b) = exp(a) exp(b): W + H exponentials a keypoint, not W * H
    axes = []
    for size, center in zip((W, H), centers.unbind(-1)):
        positions = torch.arange(
            size, dtype=keypoints.dtype, device=keypoints.device)
        values = _gaussian(positions, center, sigma)
        if not unbiased:
            distance = (positions - center.unsqueeze(-1)).abs_()
            values = values * (distance <= 3 * sigma)
        axes.append(values)
    gx, gy = axes
    return gy.unsqueeze(-1) * gx.unsqueeze(-2)


def simcc_inside(coords: Tensor, num_bins: int) -> Tensor:
    """Which coordinates lie in the image and have a bin.

    Args:
        coords (Tensor): Coordinates in bins, any shape.
        num_bins (int): Number of bins of the axis.

    Returns:
        Tensor: Bool, same shape: not negative, and the nearest bin is one of
        ``num_bins``. False for NaN.
    """
    return (coords >= 0) & (torch.round(coords) <= num_bins - 1)


def simcc_one_hot(coords: Tensor, num_bins: int) -> Tensor:
    """One at the nearest bin (SimCC, Section 3, without label smoothing).

    Args:
        coords (Tensor): Coordinates in bins, shape (...), inside the axis.
        num_bins (int): Number of bins of the axis.

    Returns:
        Tensor: Labels that sum to 1, shape (..., num_bins).
    """
    return simcc_equal(coords, num_bins, smoothing=0.)


def simcc_equal(coords: Tensor, num_bins: int, smoothing: float) -> Tensor:
    """Equal label smoothing (SimCC, Section 3 "Label smoothing").

    ``1 - smoothing`` at the nearest bin and ``smoothing / (num_bins - 1)`` at
    every other.

    Args:
        coords (Tensor): Coordinates in bins, shape (...), inside the axis.
        num_bins (int): Number of bins of the axis, at least 2.
        smoothing (float): The part given to the other bins, in [0, 1).

    Returns:
        Tensor: Labels that sum to 1, shape (..., num_bins).
    """
    labels = coords.new_full((*coords.shape, num_bins),
                             smoothing / (num_bins - 1))
    bins = torch.round(coords).long().unsqueeze(-1)
    return labels.scatter_(-1, bins, 1. - smoothing)


def simcc_gaussian(coords: Tensor, num_bins: int, sigma: float) -> Tensor:
    r"""Gaussian label smoothing (SimCC, Section 3 "Label smoothing").

    The density of :math:`\mathcal{N}(c, \sigma)` at every bin; the centre is
    not rounded. Sums to 1 but for what lies outside the axis.

    Args:
        coords (Tensor): Coordinates c in bins, shape (...).
        num_bins (int): Number of bins of the axis.
        sigma (float): Standard deviation in bins.

    Returns:
        Tensor: Labels, shape (..., num_bins).
    """
    positions = torch.arange(
        num_bins, dtype=coords.dtype, device=coords.device)
    values = _gaussian(positions, coords, sigma)
    return values.mul_(1 / (sigma * math.sqrt(2 * math.pi)))


def simcc_laplace(coords: Tensor, num_bins: int, sigma: float) -> Tensor:
    r"""Laplace label smoothing (SimCC, Section 3 "Label smoothing").

    The density :math:`\exp(-|x-c|/b) / (2b)` at every bin, with b = sigma.

    Args:
        coords (Tensor): Coordinates c in bins, shape (...).
        num_bins (int): Number of bins of the axis.
        sigma (float): Scale b in bins.

    Returns:
        Tensor: Labels, shape (..., num_bins).
    """
    positions = torch.arange(
        num_bins, dtype=coords.dtype, device=coords.device)
    offsets = positions - coords.unsqueeze(-1)
    return offsets.abs_().mul_(-1 / sigma).exp_().mul_(0.5 / sigma)
