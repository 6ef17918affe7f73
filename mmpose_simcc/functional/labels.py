# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Labels: keypoint coordinates to heatmaps and to SimCC vectors.

Pure functions, batched over every leading dimension. They take torch tensors or numpy arrays and
return the same kind, on the same device. Heatmap coordinates are in cells, SimCC coordinates in
bins; :mod:`.frames` converts pixels. Points that are not ``drawn`` have labels of zeros; by default
these are the points with NaN coordinates.
"""

import math
from typing import Optional, Sequence, Tuple

from .arrays import Array, arange, as_array, as_float, namespace

# A Gaussian is set to 0 from this many sigma on. It is below 7e-10 of its peak there, far less than
# float32 resolves beside the peak. A little farther out its values would be subnormal numbers, with
# which a processor is a hundred times slower.
CUT = 6.5


def _offsets(centers: Array, size: int) -> Array:
    """Distances of ``size`` positions from each centre, shape (..., size)."""
    return arange(size, like=centers) - centers[..., None]


def _gaussian(offsets: Array, sigma: float) -> Array:
    r""":math:`\exp(-d^2 / 2 \sigma^2)` of distances d."""
    exponents = offsets * offsets * (-0.5 / sigma**2)
    return namespace(offsets).exp(exponents) * (exponents >= -0.5 * CUT**2)


def _centers(coords: Array, drawn: Optional[Array]) -> Array:
    """Coordinates as floating-point numbers, -inf for points that are not drawn: a Gaussian
    around -inf is 0 everywhere."""
    coords = as_float(coords)
    drawn = coords == coords if drawn is None else drawn[..., None]
    return namespace(coords).where(drawn, coords, -math.inf)


def nearest_cells(keypoints: Array) -> Array:
    """The heatmap cell that a keypoint is rounded to (DARK, Section 3.2, Eq. 13), as in MMPose:
    truncation takes a coordinate in (-1.5, -0.5) to cell 0.

    Args:
        keypoints (Array): In heatmap cells, any shape.

    Returns:
        Array: Whole numbers of the same dtype; NaN stays.

    Example:
        >>> nearest_cells(torch.tensor([2.4, 2.5, -0.7]))
        tensor([2., 3., -0.])
    """
    xp = namespace(keypoints)
    return xp.trunc(as_float(keypoints) + 0.5)


def gaussian_touches_map(centers: Array, heatmap_size: Tuple[int, int], sigma: float) -> Array:
    """Which centres have a Gaussian that reaches the heatmap.

    The window of 3 sigma around the centre has to touch the map. Where 3 sigma is a whole number
    of cells this is the rule of MMPose's ``MSRAHeatmap``.

    Args:
        centers (Array): In heatmap cells, shape (..., 2): keypoints, or for biased labels their
            nearest cells.
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.

    Returns:
        Array: Bool, shape (...). False for NaN coordinates.

    Example:
        >>> gaussian_touches_map(torch.tensor([[-6.0, 3.0], [-7.5, 3.0]]), (48, 64), 2)
        tensor([ True, False])
    """
    W, H = heatmap_size
    x, y = centers[..., 0], centers[..., 1]
    low = -3 * sigma - 1
    return (low <= x) & (x < W + 3 * sigma) & (low <= y) & (y < H + 3 * sigma)


def gaussian_heatmaps(
    keypoints: Array,
    heatmap_size: Tuple[int, int],
    sigma: float,
    unbiased: bool = True,
    drawn: Optional[Array] = None,
) -> Tuple[Array, Array]:
    r"""Gaussian heatmaps with a peak of 1 (DARK, Section 3.2, Eq. 14).

    .. math::
        G(x, y) = \exp\left(-\frac{(x-u)^2 + (y-v)^2}{2\sigma^2}\right)

    Where 3 sigma is a whole number of cells these are the labels of MMPose's ``MSRAHeatmap``.
    Elsewhere (300W has sigma 1.5) its biased windows have an even number of cells, one more on
    the left and above, and near the left and the upper border its maximum lies one cell beside
    the keypoint; here windows are centred everywhere.

    Args:
        keypoints (Array): Coordinates (u, v) in heatmap cells, shape (..., 2).
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.
        unbiased (bool): Keep the sub-cell centre (DARK's unbiased encoding) and the whole
            Gaussian. Otherwise the centre is rounded to a cell (Eq. 13) and the Gaussian is cut
            at 3 sigma, as the standard (biased) encoding does.
        drawn (Array, optional): Which keypoints are drawn, bool, shape (...). All by default.

    Returns:
        tuple:
        - heatmaps (Array): In [0, 1], shape (..., H, W).
        - seen (Array): Bool, shape (...), see :func:`gaussian_touches_map`. Where it is False
          the heatmap is 0.

    Example:
        >>> heatmaps, seen = gaussian_heatmaps(torch.tensor([[2.0, 1.0]]), (4, 3), sigma=1)
        >>> heatmaps[0, 1], seen
        (tensor([0.1353, 0.6065, 1.0000, 0.6065]), tensor([True]))
    """
    centers = as_float(keypoints) if unbiased else nearest_cells(keypoints)
    seen = gaussian_touches_map(centers, heatmap_size, sigma)
    centers = _centers(centers, seen if drawn is None else seen & drawn)
    return _product(centers, heatmap_size, sigma, None if unbiased else centers), seen


def udp_heatmaps(
    keypoints: Array,
    heatmap_size: Tuple[int, int],
    sigma: float,
    drawn: Optional[Array] = None,
) -> Tuple[Array, Array]:
    """Gaussian heatmaps of unbiased data processing: around the sub-cell centre, and cut at 3
    sigma around the nearest cell. Where 3 sigma is a whole number of cells these are the labels
    of MMPose's ``UDPHeatmap``.

    Args:
        keypoints (Array): Coordinates (u, v) in heatmap cells, shape (..., 2).
        heatmap_size (tuple): (W, H) in cells.
        sigma (float): Standard deviation in cells.
        drawn (Array, optional): Which keypoints are drawn, bool, shape (...). All by default.

    Returns:
        tuple: See :func:`gaussian_heatmaps`.

    Example:
        >>> heatmaps, _ = udp_heatmaps(torch.tensor([[2.2, 1.0]]), (4, 3), sigma=1)
        >>> heatmaps[0, 1]
        tensor([0.0889, 0.4868, 0.9802, 0.7261])
    """
    nearest = nearest_cells(keypoints)
    seen = gaussian_touches_map(nearest, heatmap_size, sigma)
    known = seen if drawn is None else seen & drawn
    centers, nearest = _centers(keypoints, known), _centers(nearest, known)
    return _product(centers, heatmap_size, sigma, cut_around=nearest), seen


def _product(
    centers: Array,
    heatmap_size: Tuple[int, int],
    sigma: float,
    cut_around: Optional[Array] = None,
) -> Array:
    """2-D Gaussians, set to 0 farther than 3 sigma from ``cut_around``. Since exp(a + b) = exp(a)
    exp(b), a keypoint needs W + H exponentials, not W * H."""
    W, H = heatmap_size
    lines = _gaussian(_offsets(centers, max(W, H)), sigma)
    if cut_around is not None:
        lines = lines * (abs(_offsets(cut_around, max(W, H))) <= 3 * sigma)
    columns, rows = lines[..., 1, :H], lines[..., 0, :W]
    return namespace(lines).einsum('...y,...x->...yx', columns, rows)


def simcc_inside(coords: Array, num_bins: Sequence[int]) -> Array:
    """Which points have a bin on every axis: each coordinate is nearest to one.

    Args:
        coords (Array): Coordinates in bins, shape (..., A), one for each axis.
        num_bins (sequence[int]): Number of bins of each of the A axes.

    Returns:
        Array: Bool, shape (...): every coordinate lies in [-0.5, bins - 0.5). False for NaN.

    Example:
        >>> simcc_inside(torch.tensor([[-0.4, 3.0], [2.0, 4.7]]), (4, 5))
        tensor([ True, False])
    """
    inside = True
    for axis, number in enumerate(num_bins):
        center = coords[..., axis]
        inside = inside & (center >= -0.5) & (center < number - 0.5)
    return inside


def simcc_equal(
    coords: Array, num_bins: Sequence[int], smoothing: float, drawn: Optional[Array] = None
) -> Tuple[Array, ...]:
    """Equal label smoothing (SimCC, Section 3 "Label smoothing").

    ``1 - smoothing`` at the nearest bin and ``smoothing / (num_bins - 1)`` at every other.

    Args:
        coords (Array): Coordinates in bins, shape (..., A), inside each of the A axes.
        num_bins (sequence[int]): Number of bins of each axis, at least 2.
        smoothing (float): The part given to the other bins, in [0, 1).
        drawn (Array, optional): Which points get a label, bool, shape (...); none of them NaN.
            All but NaN by default.

    Returns:
        tuple[Array]: A label for each axis that sums to 1, shape (..., num_bins).

    Example:
        >>> simcc_equal(torch.tensor([[0.8]]), (3,), smoothing=0.1)
        (tensor([[0.0500, 0.9000, 0.0500]]),)
    """
    xp = namespace(coords)
    centers = _centers(coords, drawn)
    labels = []
    for axis, number in enumerate(num_bins):
        center = centers[..., axis]
        nearest = _offsets(center.round(), number) == 0
        label = xp.where(nearest, 1 - smoothing, smoothing / (number - 1))
        labels.append(as_array(label * xp.isfinite(center)[..., None], like=centers))
    return tuple(labels)


def simcc_gaussian(
    coords: Array,
    num_bins: Sequence[int],
    sigma: Sequence[float],
    drawn: Optional[Array] = None,
) -> Tuple[Array, ...]:
    r"""Gaussian label smoothing (SimCC, Section 3 "Label smoothing").

    The density of :math:`\mathcal{N}(c, \sigma)` at every bin; the centre is not rounded. Sums
    to 1 but for what lies outside the axis.

    .. math:: \frac{1}{\sqrt{2 \pi} \sigma} \exp\left(-\frac{(i - c)^2}{2 \sigma^2}\right)

    Args:
        coords (Array): Coordinates c in bins, shape (..., A), one for each axis.
        num_bins (sequence[int]): Number of bins of each of the A axes.
        sigma (sequence[float]): Standard deviation in bins on each axis.
        drawn (Array, optional): Which points get a label, bool, shape (...); none of them NaN.
            All but NaN by default.

    Returns:
        tuple[Array]: A label for each axis, shape (..., num_bins).

    Example:
        >>> simcc_gaussian(torch.tensor([[1.0]]), (4,), (1.0,))
        (tensor([[0.2420, 0.3989, 0.2420, 0.0540]]),)
    """
    centers = _centers(coords, drawn)
    return tuple(
        _gaussian(_offsets(centers[..., axis], number), scale)
        * (1 / (math.sqrt(2 * math.pi) * scale))
        for axis, (number, scale) in enumerate(zip(num_bins, sigma))
    )


def simcc_laplace(
    coords: Array,
    num_bins: Sequence[int],
    sigma: Sequence[float],
    drawn: Optional[Array] = None,
) -> Tuple[Array, ...]:
    r"""Laplace label smoothing (SimCC, Section 3 "Label smoothing").

    The density :math:`\exp(-|i-c|/b) / (2b)` at every bin, with b = sigma; 0 where it is below
    1e-34 of its peak.

    Args:
        coords (Array): Coordinates c in bins, shape (..., A), one for each axis.
        num_bins (sequence[int]): Number of bins of each of the A axes.
        sigma (sequence[float]): Scale b in bins on each axis.
        drawn (Array, optional): Which points get a label, bool, shape (...); none of them NaN.
            All but NaN by default.

    Returns:
        tuple[Array]: A label for each axis, shape (..., num_bins).

    Example:
        >>> simcc_laplace(torch.tensor([[1.0]]), (4,), (1.0,))
        (tensor([[0.1839, 0.5000, 0.1839, 0.0677]]),)
    """
    xp = namespace(coords)
    centers = _centers(coords, drawn)
    labels = []
    for axis, (number, scale) in enumerate(zip(num_bins, sigma)):
        distance = abs(_offsets(centers[..., axis], number)) * (1 / scale)
        # 0 beyond 78 b, so that there are no subnormal numbers, see CUT
        labels.append(xp.exp(-distance) * (distance < 78) * (0.5 / scale))
    return tuple(labels)
