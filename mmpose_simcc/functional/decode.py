# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decoders: heatmaps and SimCC vectors to sub-cell coordinates.

Pure functions of tensors, batched over every leading dimension, on the
tensors' own device. Coordinates are in heatmap cells, or in bins for vectors;
codecs scale them to pixels. All decoders start from the integer argmax and
read only a window around it.
"""
from functools import lru_cache
from typing import Tuple, Union

import cv2
import torch
from torch import Tensor


def _is_graph_capture() -> bool:
    """Whether torch.compile, torch.export or a tracer records this call."""
    if torch.jit.is_tracing():
        return True
    compiler = getattr(torch, 'compiler', None)  # torch >= 2.1
    return hasattr(compiler, 'is_compiling') and compiler.is_compiling()


def _argmax(values: Tensor) -> Tensor:
    """Index of the first maximum along the last dimension."""
    # A separate path, since it is six times as fast: numpy's argmax on the
    # CPU reads at memory speed, torch's does not.
    if (values.device.type == 'cpu' and values.is_contiguous()
            and values.dtype in (torch.float32, torch.float64)
            and not _is_graph_capture()):
        return torch.as_tensor(values.detach().numpy().argmax(axis=-1))
    return values.argmax(dim=-1)


def vector_argmax(vectors: Tensor) -> Tuple[Tensor, Tensor]:
    """The maximum of every vector.

    Args:
        vectors (Tensor): Shape (..., L).

    Returns:
        tuple:
        - locs (Tensor): Index of the first maximum, int64, shape (...).
        - vals (Tensor): The maxima, shape (...). NaN where a vector has one.
    """
    locs = _argmax(vectors)
    return locs, vectors.gather(-1, locs.unsqueeze(-1)).squeeze(-1)


def heatmap_argmax(heatmaps: Tensor) -> Tuple[Tensor, Tensor]:
    """The maximum of every heatmap: "standard decoding" (DAEC, Section 2.2),
    "no shifting" (DARK, Table 1).

    Args:
        heatmaps (Tensor): Shape (..., H, W).

    Returns:
        tuple:
        - locs (Tensor): Cells (x, y) of the first maximum, int64, shape
          (..., 2).
        - vals (Tensor): The maxima, shape (...). NaN where a map has one.

    Example:
        >>> heatmap_argmax(torch.eye(3)[None, 1:])
        (tensor([[1, 0]]), tensor([1.]))
    """
    W = heatmaps.shape[-1]
    index, vals = vector_argmax(heatmaps.flatten(-2))
    y = torch.div(index, W, rounding_mode='floor')
    return torch.stack([index - y * W, y], dim=-1), vals


def _is_inside(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)


def _window(heatmaps: Tensor, locs: Tensor,
            radius: int) -> Tuple[Tensor, Tensor, Tensor]:
    """The square of S = 2 radius + 1 cells around each maximum.

    Along x it is moved to lie on the map (all of the map's width where that
    is less than S). Along y it is not moved, and rows that are off the map
    hold anything, NaN included.

    Args:
        heatmaps (Tensor): Shape (M, H, W).
        locs (Tensor): Centre cells (x, y), shape (M, 2).
        radius (int): Reach of the window in cells.

    Returns:
        tuple: Values (M, S, S or W); where x lies in the window (M,); which
        rows are on the map (M, 1, S).
    """
    M, H, W = heatmaps.shape
    size, width = 2 * radius + 1, min(2 * radius + 1, W)
    x, y = locs.unbind(-1)
    left = (x - radius).clamp(0, W - width)
    rows = y.unsqueeze(-1) + torch.arange(
        -radius, radius + 1, device=locs.device)
    rows_on = _is_inside(rows, H)
    maps = torch.arange(M, device=locs.device)
    first = ((maps * (H * W) + left).unsqueeze(-1) +
             rows.clamp(0, H - 1) * W).flatten()
    cells = heatmaps.flatten()
    if _is_graph_capture():
        columns = torch.arange(width, device=locs.device)
        values = cells[first.unsqueeze(-1) + columns]
    else:
        # Ten times as fast, but no exporter knows it: copies whole rows out
        # of a view in which every row of `width` cells is a line.
        count = max(cells.numel() - width + 1, 0)
        lines = cells.as_strided((count, width), (1, 1))
        values = lines.index_select(0, first)
    return values.view(M, size, width), x - left, rows_on.unsqueeze(1)


@lru_cache(maxsize=64)
def _blur_matrices(radius: int, width: int, kernel_size: int,
                   dtype: torch.dtype, device: torch.device) -> Tensor:
    """Banded matrices that blur a line with zeros around it.

    Returns:
        Tensor: Shape (width, 2 radius + 1, width). Entry p maps a line of
        ``width`` cells to its blurred values at p - radius .. p + radius.
    """
    # OpenCV's Gaussian, whose sigma follows from the size, as in DARK
    kernel = torch.from_numpy(cv2.getGaussianKernel(kernel_size, -1)[:, 0])
    half = (kernel_size - 1) // 2
    centers = torch.arange(width)[:, None, None]
    outputs = centers + torch.arange(-radius, radius + 1)[:, None]
    taps = torch.arange(width) - outputs + half
    weights = kernel[taps.clamp(0, kernel_size - 1)]
    weights = weights * ((taps >= 0) & (taps < kernel_size))
    return weights.to(device=device, dtype=dtype)


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


def _blurred_window(heatmaps: Tensor, locs: Tensor, radius: int,
                    kernel_size: int) -> Tensor:
    """Window of the blurred map, zero padding at the border (DARK, Eq. 10).
    Only the window is blurred.

    Returns:
        Tensor: Shape (M, S, S) with S = 2 radius + 1, as (column, row).
    """
    reach = radius + (kernel_size - 1) // 2
    values, position, rows_on = _window(heatmaps, locs, reach)
    blur_x = _blur_matrices(radius, values.shape[-1], kernel_size,
                            values.dtype, values.device)[position]
    blur_y = _blur_matrices(radius, 2 * reach + 1, kernel_size, values.dtype,
                            values.device)[reach]
    # columns first, so that the second product is a plain one
    along_x = torch.bmm(blur_x, values.transpose(1, 2))
    along_x = torch.where(rows_on, along_x, torch.zeros_like(along_x))
    return torch.matmul(along_x, blur_y.t())


def shift_quarter(heatmaps: Tensor, locs: Tensor) -> Tensor:
    """A quarter of a cell towards the larger neighbour along each axis: the
    sign shift of HRNet and SimpleBaseline, "quarter offset".

    By MMPose's border rules: along x where 1 < x < W - 1 and y > 0, along y
    where 1 < y < H - 1 and x > 0.

    Args:
        heatmaps (Tensor): Shape (..., H, W).
        locs (Tensor): Cells (x, y) of the maxima, int64, shape (..., 2).

    Returns:
        Tensor: Coordinates (x, y) in cells, shape (..., 2).
    """
    H, W = heatmaps.shape[-2:]
    values = heatmaps.reshape(-1, H * W)
    x, y = locs.reshape(-1, 2).unbind(-1)
    index = y * W + x
    # right, left, below, above; off the map the result is not used
    near = torch.stack([index + 1, index - 1, index + W, index - W], dim=-1)
    near = values.gather(-1, near.clamp_(0, H * W - 1))
    step = (near[:, 0::2] - near[:, 1::2]).sign()
    inner = torch.stack([(x > 1) & (x < W - 1) & (y > 0),
                         (y > 1) & (y < H - 1) & (x > 0)], dim=-1)
    shift = torch.where(inner, 0.25 * step, torch.zeros_like(step))
    return locs + shift.reshape(locs.shape)


def shift_second_max(heatmaps: Tensor, locs: Tensor) -> Tensor:
    r"""A quarter of a cell towards the second maximum (DARK, Eq. 1).

    .. math:: p = m + 0.25 \frac{s - m}{\lVert s - m \rVert_2}

    Args:
        heatmaps (Tensor): Shape (..., H, W), at least two cells.
        locs (Tensor): Cells (x, y) of the maxima m, int64, shape (..., 2).

    Returns:
        Tensor: Coordinates (x, y) in cells, shape (..., 2).
    """
    W = heatmaps.shape[-1]
    index = locs[..., 1] * W + locs[..., 0]
    others = heatmaps.flatten(-2).scatter(-1, index.unsqueeze(-1),
                                          -float('inf'))
    second, _ = heatmap_argmax(others.view(heatmaps.shape))
    towards = (second - locs).to(heatmaps.dtype)
    return locs + 0.25 * towards / towards.norm(dim=-1, keepdim=True)


@lru_cache(maxsize=16)
def _derivative_matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Finite differences on a 5 x 5 window, shape (25, 5): d/dx, d/dy with
    spacing 1 and d2/dx2, d2/dxdy, d2/dy2 with spacing 2, as in the published
    code of DARK."""
    stencils = torch.zeros(5, 5, 5, dtype=torch.float64)
    dx, dy, dxx, dxy, dyy = stencils  # each (column, row), centre at (2, 2)
    dx[3, 2], dx[1, 2] = 0.5, -0.5
    dy[2, 3], dy[2, 1] = 0.5, -0.5
    dxx[4, 2], dxx[2, 2], dxx[0, 2] = 0.25, -0.5, 0.25
    dyy[2, 4], dyy[2, 2], dyy[2, 0] = 0.25, -0.5, 0.25
    dxy[3, 3], dxy[1, 1], dxy[1, 3], dxy[3, 1] = 0.25, 0.25, -0.25, -0.25
    return stencils.flatten(1).t().to(device=device, dtype=dtype).contiguous()


def refine_dark(heatmaps: Tensor,
                locs: Tensor,
                blur_kernel_size: int) -> Tensor:
    r"""Distribution-aware decoding: one Newton step on the log of the
    smoothed heatmap (DARK, Eq. 9 and 10).

    .. math:: \mu = m - \left(D''(m)\right)^{-1} D'(m)

    Only where 1 < x < W - 2 and 1 < y < H - 2; elsewhere, and where the
    Hessian is singular, the maximum itself. Scaling the smoothed map back
    (Eq. 11) changes no derivative of its log, so the map is smoothed only
    around m.

    Args:
        heatmaps (Tensor): Shape (..., H, W).
        locs (Tensor): Cells (x, y) of the maxima m, int64, shape (..., 2).
        blur_kernel_size (int): Odd size of the Gaussian kernel with zero
            padding; 1 does not smooth (DARK, Table 2 without modulation).

    Returns:
        Tensor: Coordinates (x, y) in cells, shape (..., 2).
    """
    H, W = heatmaps.shape[-2:]
    flat_locs = locs.reshape(-1, 2)
    window = _blurred_window(
        heatmaps.reshape(-1, H, W), flat_locs, 2, blur_kernel_size)
    log = window.clamp(min=1e-10).log().flatten(1)
    derivatives = torch.matmul(
        log, _derivative_matrix(log.dtype, log.device))
    dx, dy, dxx, dxy, dyy = derivatives.unbind(-1)
    det = dxx * dyy - dxy * dxy
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=-1)
    step = step / det.unsqueeze(-1)
    last = flat_locs.new_tensor((W - 2, H - 2))
    usable = ((flat_locs > 1) & (flat_locs < last)).all(-1, keepdim=True)
    step = torch.where(usable & step.isfinite(), step, torch.zeros_like(step))
    return locs + step.reshape(locs.shape)


def _daec_moments(offsets: Tensor, on_map: Tensor, delta: Tensor,
                  radius: int, cut_upper: bool) -> Tensor:
    """Weights of order 0 and 1 along one axis of DAEC's window.

    A cell counts 1 from -radius to radius - delta (mirrored for a cut of the
    lower bound), falling linearly over the last cell, so that a fractional
    delta counts it by its part.

    Args:
        offsets (Tensor): Cells from the maximum, shape (M, S).
        on_map (Tensor): Which of them are on the map, shape (M, S).
        delta (Tensor): Error-compensation factors, shape (M,).
        radius (int): Reach of the uncut window.
        cut_upper (bool): Whether the upper or the lower bound is cut.

    Returns:
        Tensor: Shape (M, 2, S): the weights, and the weights times offsets.
    """
    outwards = offsets if cut_upper else -offsets
    weights = (radius + 1 - delta.unsqueeze(-1) - outwards).clamp(0, 1)
    weights = weights * (on_map & (outwards >= -radius))
    return torch.stack([weights, weights * offsets], dim=1)


_CUTS_UPPER = dict(
    br=(True, True), ur=(True, False), bl=(False, True), ul=(False, False))


def daec_radius(sigma: float) -> int:
    """Half width of DAEC's window in cells: 3 sigma and one more (DAEC,
    Section 3.3, step 2).

    Args:
        sigma (float): Standard deviation of the label in cells.
    """
    return int(3 * sigma + 1)


def decode_daec(heatmaps: Tensor,
                locs: Tensor,
                sigma: float,
                delta: Union[float, Tensor],
                corner: str = 'br',
                blur_kernel_size: int = 1) -> Tensor:
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
        heatmaps (Tensor): Shape (..., H, W).
        locs (Tensor): Cells (x, y) of the maxima, int64, shape (..., 2).
        sigma (float): Standard deviation of the label in cells.
        delta (float | Tensor): Error-compensation factor in cells; may be
            fractional or negative. A tensor broadcasts to (..., 2): one for
            x and one for y, and, for example, a row a keypoint.
        corner (str): The corner that is cut (DAEC, Section 4.6): 'br' (the
            method) the upper bounds of x and y, 'ul' the lower bounds, 'ur'
            the upper of x and the lower of y, 'bl' the lower of x and the
            upper of y.
        blur_kernel_size (int): Odd size of a Gaussian kernel that smooths
            the map first (DAEC, Section 4.5); 1 does not smooth.

    Returns:
        Tensor: Coordinates (x, y) in cells, shape (..., 2).
    """
    heatmaps = heatmaps.reshape(-1, *heatmaps.shape[-2:])
    flat_locs = locs.reshape(-1, 2)
    deltas = torch.as_tensor(
        delta, dtype=heatmaps.dtype, device=heatmaps.device)
    radius = daec_radius(sigma)
    # a negative delta widens the window
    reach = radius + max(0, -int(deltas.min().floor()))
    deltas = deltas.expand(locs.shape).reshape(-1, 2)
    x, y = flat_locs.unbind(-1)
    rows = torch.arange(-reach, reach + 1, device=x.device)
    if blur_kernel_size > 1:
        window = _blurred_window(heatmaps, flat_locs, reach, blur_kernel_size)
        cols = rows
    else:
        values, position, _ = _window(heatmaps, flat_locs, reach)
        window = values.transpose(1, 2)
        cols = torch.arange(window.shape[1], device=x.device)
        cols = cols - position.unsqueeze(-1)

    cols_on = _is_inside(x.unsqueeze(-1) + cols, heatmaps.shape[-1])
    rows_on = _is_inside(y.unsqueeze(-1) + rows, heatmaps.shape[-2])
    upper_x, upper_y = _CUTS_UPPER[corner]
    moments_x = _daec_moments(cols, cols_on, deltas[:, 0], radius, upper_x)
    moments_y = _daec_moments(rows, rows_on, deltas[:, 1], radius, upper_y)
    # [[sum, sum y], [sum x, sum xy]] over the window in two products
    sums = torch.bmm(moments_x, window.clamp(min=1e-10))
    sums = torch.where(rows_on.unsqueeze(1), sums, torch.zeros_like(sums))
    sums = torch.bmm(sums, moments_y.transpose(1, 2))
    mean = torch.stack([sums[:, 1, 0], sums[:, 0, 1]], dim=-1)
    mean = mean / sums[:, 0, 0].unsqueeze(-1)
    mean = torch.where(mean.isfinite(), mean, torch.zeros_like(mean))
    return locs + mean.reshape(locs.shape)


def refine_dark_1d(vectors: Tensor, locs: Tensor,
                   blur_kernel_size: int) -> Tensor:
    """:func:`refine_dark` along one axis, for SimCC probabilities.

    A step that would leave the axis is not taken.

    Args:
        vectors (Tensor): Not negative, shape (..., L).
        locs (Tensor): Bins of the maxima, int64, shape (...).
        blur_kernel_size (int): Odd size of the Gaussian kernel; 1 does not
            smooth.

    Returns:
        Tensor: Coordinates in bins, shape (...).
    """
    L = vectors.shape[-1]
    flat_locs = locs.reshape(-1)
    reach = 2 + (blur_kernel_size - 1) // 2
    offsets = torch.arange(-reach, reach + 1, device=locs.device)
    index = flat_locs.unsqueeze(-1) + offsets
    values = vectors.reshape(-1, L).gather(-1, index.clamp(0, L - 1))
    values = values * _is_inside(index, L)
    blur = _blur_matrices(2, 2 * reach + 1, blur_kernel_size, values.dtype,
                          values.device)[reach]
    log = torch.matmul(values, blur.t()).clamp(min=1e-10).log()
    first = 0.5 * (log[:, 3] - log[:, 1])
    second = 0.25 * (log[:, 4] - 2 * log[:, 2] + log[:, 0])
    refined = flat_locs - first / second
    usable = ((flat_locs > 1) & (flat_locs < L - 2) & (refined >= 0)
              & (refined <= L - 1))
    refined = torch.where(usable, refined, flat_locs.to(refined.dtype))
    return refined.reshape(locs.shape)


def decode_daec_1d(vectors: Tensor,
                   locs: Tensor,
                   sigma: float,
                   delta: Union[float, Tensor],
                   cut_upper: bool = True) -> Tensor:
    """:func:`decode_daec` along one axis, for SimCC probabilities.

    Args:
        vectors (Tensor): Not negative, shape (..., L).
        locs (Tensor): Bins of the maxima, int64, shape (...).
        sigma (float): Standard deviation of the label in bins.
        delta (float | Tensor): Error-compensation factor in bins, broadcasts
            to (...).
        cut_upper (bool): Whether the upper or the lower bound is cut.

    Returns:
        Tensor: Coordinates in bins, shape (...).
    """
    L = vectors.shape[-1]
    flat_locs = locs.reshape(-1)
    deltas = torch.as_tensor(
        delta, dtype=vectors.dtype, device=vectors.device)
    radius = daec_radius(sigma)
    reach = radius + max(0, -int(deltas.min().floor()))
    offsets = torch.arange(-reach, reach + 1, device=locs.device)
    index = flat_locs.unsqueeze(-1) + offsets
    values = vectors.reshape(-1, L).gather(-1, index.clamp(0, L - 1))
    deltas = deltas.expand(locs.shape).reshape(-1)
    moments = _daec_moments(offsets, _is_inside(index, L), deltas, radius,
                            cut_upper)
    total, mean = (moments * values.clamp(min=1e-10).unsqueeze(1)).sum(
        -1).unbind(1)
    mean = mean / total
    mean = torch.where(mean.isfinite(), mean, torch.zeros_like(mean))
    return locs + mean.reshape(locs.shape)
