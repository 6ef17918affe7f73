# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decoders: heatmaps and SimCC vectors to sub-cell coordinates.

Pure functions, batched over every leading dimension. They take torch tensors or numpy arrays and
return the same kind, on the same device. Coordinates are in heatmap cells, or in bins for vectors;
:mod:`.frames` converts them to pixels. All decoders start from the integer argmax and read only a
window around it (:mod:`.windows`), which holds a tenth of a heatmap's cells.
"""

import math
from typing import Sequence, Tuple, Union

from .arrays import Array, arange, as_array, is_finite, namespace, take
from .windows import Axis, read_window

LOWEST = 1e-10  # smaller responses are raised to this, as in the published code

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
    *shape, L = vectors.shape
    vectors = vectors.reshape(-1, L)
    locs = vectors.argmax(-1)
    vals = take(vectors.reshape(-1), locs + L * arange(vectors.shape[0], locs))
    return locs.reshape(shape), vals.reshape(shape)


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
    H, W = heatmaps.shape[-2:]
    x, y = locs.reshape(-1, 2).T
    peak = y * W + x + H * W * arange(x.shape[0], x)
    inside = xp.stack([(x > 1) & (x < W - 1) & (y > 0), (y > 1) & (y < H - 1) & (x > 0)])
    neighbour = inside * as_array([[1], [W]], like=peak)  # else the maximum itself
    after, before = (take(heatmaps.reshape(-1), peak + i) for i in (neighbour, -neighbour))
    # 0 where both neighbours are equal or one is NaN
    sign = as_array(after > before, like=heatmaps) - as_array(after < before, like=heatmaps)
    return as_array(locs, like=heatmaps) + 0.25 * sign.T.reshape(locs.shape)


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
    second, value = heatmap_argmax(others)
    exists = value > -math.inf
    towards = as_array(second - locs, heatmaps)
    distance = xp.sqrt((towards * towards).sum(-1))
    part = xp.where(exists, 0.25, 0.0) / xp.where(exists, distance, 1.0)
    return as_array(locs, heatmaps) + as_array(part[..., None], heatmaps) * towards


def _steps(
    numerators: Array, denominator: Array, usable: Array, max_step: float = math.inf
) -> Array:
    """Steps from the maxima, ``numerators / denominator``. A map has a step of 0 along all axes if
    it is not usable, or if one of its steps is not finite or longer than ``max_step``. Such maps
    are not divided at all, which keeps gradients finite.

    Args:
        numerators (Array): One for each axis, shape (A, M).
        denominator (Array): Positive for usable maps, shape (M,).
        usable (Array): Which maps are usable, bool, shape (M,).
        max_step (float): In positions.

    Returns:
        Array: Shape (A, M).
    """
    xp = namespace(numerators)
    short = is_finite(numerators) & (abs(numerators) <= max_step * denominator)
    usable = usable & short.all(0)
    return xp.where(usable, numerators, 0.0) / xp.where(usable, denominator, 1.0)


def refine_dark(
    heatmaps: Array,
    locs: Array,
    blur_kernel_size: int,
    max_step: float = math.inf,
    border: str = 'clip',
) -> Array:
    r"""Distribution-aware decoding: one Newton step on the log of the smoothed heatmap (DARK,
    Eq. 9 and 10).

    .. math:: \mu = m - \left(D''(m)\right)^{-1} D'(m)

    with derivatives of spacing 1 (first) and 2 (second), as in the published code. Only where
    1 < x < W - 2 and 1 < y < H - 2. Scaling the smoothed map back (Eq. 11) changes no derivative
    of its log, so the map is smoothed only around m.

    The log of a Gaussian has a negative definite Hessian, and its largest response lies near its
    centre. Where the Hessian is not negative definite, or the step is longer than ``max_step``
    along x or y, the map is not like a Gaussian and the answer is the maximum itself. An answer
    beyond the map is moved to its border.

    Args:
        heatmaps (Array): Shape (..., H, W).
        locs (Array): Cells (x, y) of the maxima m, int64, shape (..., 2).
        blur_kernel_size (int): Odd size of the Gaussian kernel; 1 does not smooth (DARK, Table 2
            without modulation).
        max_step (float): Longest step in cells. Unlimited by default, as in the published code.
        border (str): 'clip' (the method) smooths with zeros around the map, which bends what is
            left of a peak there. 'symmetric' ends the kernel on both sides where it would leave
            the map.

    Returns:
        Array: Coordinates (x, y) in cells, shape (..., 2).

    Example:
        >>> heatmaps, _ = gaussian_heatmaps(torch.tensor([[20.3, 30.6]]), (48, 64), sigma=2)
        >>> locs, _ = heatmap_argmax(heatmaps)
        >>> refine_dark(heatmaps, locs, blur_kernel_size=11)
        tensor([[20.2998, 30.6002]])
    """
    xp = namespace(heatmaps)
    H, W = heatmaps.shape[-2:]
    x, y = locs.reshape(-1, 2).T
    window = read_window(heatmaps.reshape(-1, H, W), (y, x), 2, blur_kernel_size, border)
    log = xp.log(window.clip(LOWEST))
    dx = (log[2, 3] - log[2, 1]) / 2
    dy = (log[3, 2] - log[1, 2]) / 2
    dxx = (log[2, 4] - 2 * log[2, 2] + log[2, 0]) / 4
    dyy = (log[4, 2] - 2 * log[2, 2] + log[0, 2]) / 4
    dxy = (log[3, 3] - log[1, 3] - log[3, 1] + log[1, 1]) / 4
    det = dxx * dyy - dxy * dxy
    inside = (x > 1) & (x < W - 2) & (y > 1) & (y < H - 2)
    numerators = xp.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy])
    step_x, step_y = _steps(numerators, det, inside & (dxx < 0) & (det > 0), max_step)
    refined_x = (as_array(x, like=step_x) + step_x).clip(0, W - 1)
    refined_y = (as_array(y, like=step_y) + step_y).clip(0, H - 1)
    return xp.stack([refined_x, refined_y], -1).reshape(locs.shape)


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


def _lowest(delta: Delta) -> float:
    """The smallest factor. It decides on the size of the window, so it has to be on the host."""
    if hasattr(delta, 'tolist'):
        delta = delta.tolist()
    return min(map(_lowest, delta)) if isinstance(delta, (list, tuple)) else float(delta)


def _daec_reach(sigma: float, delta: Delta) -> int:
    """Positions on each side of a maximum that the window can have: e, more if a factor is
    negative."""
    return daec_radius(sigma) + max(0, -math.floor(_lowest(delta)))


def _daec_weights(
    axis: Axis, offsets: Array, sigma: float, delta: Array, cut_upper: bool, border: str
) -> Array:
    """How much each position along an axis counts in DAEC's sums: 1 from -e to e - delta, or from
    delta - e to e where the lower bound is cut. With a fractional delta the position next to the
    cut counts by a fraction.

    Args:
        axis (Axis): n positions around each maximum.
        offsets (Array): Its offsets as floating-point numbers, shape (n, 1).
        sigma (float): Standard deviation of the label; gives e.
        delta (Array): Error-compensation factors, shape (M,).
        cut_upper (bool): Whether the upper or the lower bound is cut.
        border (str): See :func:`decode_daec`.

    Returns:
        Array: In [0, 1], shape (n, M).
    """
    e = daec_radius(sigma)
    outwards = offsets if cut_upper else -offsets
    counts = axis.exists & (outwards >= -e)
    if border == 'symmetric':
        counts = counts & (abs(axis.offsets) <= axis.to_border)
    return (e + 1 - delta - outwards).clip(0, 1) * counts


_CUTS_UPPER = dict(br=(True, True), ur=(True, False), bl=(False, True), ul=(False, False))


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

    Delta still cuts the full window, not the shorter one: the shorter a window is, the more a cut
    by Delta would move its mean. Where r is at least e and e - Delta, both borders give the same.

    Args:
        heatmaps (Array): Shape (..., H, W).
        locs (Array): Cells (x, y) of the maxima, int64, shape (..., 2).
        sigma (float): Standard deviation of the label in cells.
        delta (float | sequence | Array): Error-compensation factor in cells; may be fractional
            or negative. Several broadcast to (..., 2): one for x and one for y, and, for example,
            a row a keypoint. In compiled or exported code, numbers and lists of them.
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
    H, W = heatmaps.shape[-2:]
    x, y = locs.reshape(-1, 2).T
    radius = _daec_reach(sigma, delta)
    f = read_window(heatmaps.reshape(-1, H, W), (y, x), radius, blur_kernel_size).clip(LOWEST)
    delta_x, delta_y = xp.broadcast_to(as_array(delta, like=f), locs.shape).reshape(-1, 2).T
    upper_x, upper_y = _CUTS_UPPER[corner]
    axis_x, axis_y = Axis(x, W, radius), Axis(y, H, radius)
    offsets = as_array(axis_x.offsets, like=f)  # those of y as well
    f = f * _daec_weights(axis_x, offsets, sigma, delta_x, upper_x, border)
    f = f * _daec_weights(axis_y, offsets, sigma, delta_y, upper_y, border)[:, None]
    # not by way of the sums of rows and columns: OpenVINO makes something else of sums of sums
    sums = xp.stack([(f * offsets).sum((0, 1)), (f * offsets[:, None]).sum((0, 1))])
    total = f.sum((0, 1))
    mean = _steps(sums, total, total > 0)
    return as_array(locs, like=mean) + mean.T.reshape(locs.shape)


def refine_dark_1d(
    vectors: Array,
    locs: Array,
    blur_kernel_size: int,
    max_step: float = math.inf,
    border: str = 'clip',
) -> Array:
    """:func:`refine_dark` along one axis, for SimCC probabilities.

    Args:
        vectors (Array): Not negative, shape (..., L).
        locs (Array): Bins of the maxima, int64, shape (...).
        blur_kernel_size (int): Odd size of the Gaussian kernel; 1 does not smooth.
        max_step (float): Longest step in bins. Unlimited by default.
        border (str): 'clip' or 'symmetric', see :func:`refine_dark`.

    Returns:
        Array: Coordinates in bins, shape (...).

    Example:
        >>> label, = simcc_gaussian(torch.tensor([[20.3]]), (64,), (2,))
        >>> refine_dark_1d(label, vector_argmax(label)[0], blur_kernel_size=11)
        tensor([20.2998])
    """
    L = vectors.shape[-1]
    x = locs.reshape(-1)
    window = read_window(vectors.reshape(-1, L), [x], 2, blur_kernel_size, border)
    log = namespace(window).log(window.clip(LOWEST))
    first = (log[3] - log[1]) / 2
    second = (log[4] - 2 * log[2] + log[0]) / 4
    usable = (x > 1) & (x < L - 2) & (second < 0)
    step = _steps(first[None], -second, usable, max_step)[0]
    return (as_array(x, like=step) + step).clip(0, L - 1).reshape(locs.shape)


def decode_daec_1d(
    vectors: Array,
    locs: Array,
    sigma: float,
    delta: Delta,
    cut_upper: bool = True,
    border: str = 'clip',
) -> Array:
    """:func:`decode_daec` along one axis, for SimCC probabilities.

    Args:
        vectors (Array): Not negative, shape (..., L).
        locs (Array): Bins of the maxima, int64, shape (...).
        sigma (float): Standard deviation of the label in bins.
        delta (float | sequence | Array): Error-compensation factor in bins, several broadcast to
            (...).
        cut_upper (bool): Whether the upper or the lower bound is cut.
        border (str): 'clip' or 'symmetric', see :func:`decode_daec`.

    Returns:
        Array: Coordinates in bins, shape (...).

    Example:
        >>> label, = simcc_gaussian(torch.tensor([[20.3]]), (64,), (2,))
        >>> decode_daec_1d(label, vector_argmax(label)[0], sigma=2, delta=0)
        tensor([20.2993])
    """
    L = vectors.shape[-1]
    x = locs.reshape(-1)
    radius = _daec_reach(sigma, delta)
    p = read_window(vectors.reshape(-1, L), [x], radius).clip(LOWEST)
    delta = namespace(p).broadcast_to(as_array(delta, like=p), locs.shape).reshape(-1)
    axis = Axis(x, L, radius)
    offsets = as_array(axis.offsets, like=p)
    p = p * _daec_weights(axis, offsets, sigma, delta, cut_upper, border)
    total = p.sum(0)
    mean = _steps((p * offsets).sum(0)[None], total, total > 0)[0]
    return as_array(locs, like=mean) + mean.reshape(locs.shape)
