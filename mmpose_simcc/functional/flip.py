# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Flip test: the mean of a network's outputs for a picture and for its mirror image.

The exact flip mirrors about the centre of the box, as ``RandomFlip`` does in training. A plain
crop has it at w / 2, so that pixel x goes to w - x; a UDP crop has it at (w - 1) / 2, so that
pixel x goes to w - 1 - x. Reversing a row of pixels gives the second; for the first the reversed
row moves right by one pixel, and so do the rows of a heatmap, whatever its stride.

Stock reverses the picture in both frames. In a plain one the maps of the reversed picture would
have to move by 1 - 1 / stride cells. Stock moves them by a whole cell, so they are one pixel off,
and the mean of both half a pixel.
"""

from typing import Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from ..utils.checks import check_choice, invalid

Vectors = Tuple[Tensor, Tensor]
FLIPS = ('none', 'stock', 'exact')


def mirror(rows: Tensor, shift: bool) -> Tensor:
    """Reverse the last axis.

    Args:
        rows (Tensor): Pictures, heatmaps or anything else, shape (..., n).
        shift (bool): Whether to move the result right by one, so that element i goes to n - i
            and not to n - 1 - i. The first element then is repeated, since nothing goes there.

    Returns:
        Tensor: Same shape.

    Example:
        >>> mirror(torch.tensor([1, 2, 3, 4]), shift=False)
        tensor([4, 3, 2, 1])
        >>> mirror(torch.tensor([1, 2, 3, 4]), shift=True)
        tensor([4, 4, 3, 2])
    """
    rows = rows.flip(-1)
    return torch.cat([rows[..., :1], rows[..., :-1]], -1) if shift else rows


def mirror_images(images: Tensor, flip: str = 'exact', use_udp: bool = False) -> Tensor:
    """Mirror images whose outputs :func:`average_flip` averages with those of the images.

    Args:
        images (Tensor): Input images, shape (B, C, h, w).
        flip (str): ``'exact'`` or ``'stock'``.
        use_udp (bool): Whether the pipeline's ``TopdownAffine`` has ``use_udp``.

    Returns:
        Tensor: Same shape.

    Raises:
        ValueError: There is no such flip.

    Example:
        >>> mirror_images(torch.arange(4).view(1, 1, 1, 4))
        tensor([[[[3, 3, 2, 1]]]])
    """
    check_choice('flip', flip, FLIPS[1:])
    return mirror(images, shift=flip == 'exact' and not use_udp)


def flip_heatmaps(heatmaps: Tensor, flip_indices: Sequence[int], shift: bool) -> Tensor:
    """Heatmaps of a mirrored image as maps of the image itself.

    Args:
        heatmaps (Tensor): Shape (B, K, H, W).
        flip_indices (sequence[int]): For each keypoint, its mirror image.
        shift (bool): Whether cell i is the mirror image of W - i, or of W - 1 - i.

    Returns:
        Tensor: Same shape.

    Example:
        >>> flip_heatmaps(torch.arange(4.0).view(1, 1, 1, 4), [0], shift=True)
        tensor([[[[3., 3., 2., 1.]]]])
    """
    return mirror(heatmaps[:, flip_indices], shift)


def flip_simcc(
    simcc_x: Tensor,
    simcc_y: Tensor,
    flip_indices: Sequence[int],
    split_ratio: float,
    shift: bool,
) -> Vectors:
    """Vectors of a mirrored image as vectors of the image itself.

    Pixel x at w - x means bin j at w k - j, pixel x at w - 1 - x bin j at (w - 1) k - j. Neither
    is the reversed vector, bin j at w k - 1 - j, unless k is 1. A bin between two others is
    interpolated. Beyond the ends of the vector the last bin is repeated.

    Args:
        simcc_x (Tensor): Logits along x, shape (B, K, w * k), rounded.
        simcc_y (Tensor): Logits along y, shape (B, K, h * k), rounded.
        flip_indices (sequence[int]): For each keypoint, its mirror image.
        split_ratio (float): Bins a pixel k.
        shift (bool): Whether pixel x of the image is pixel w - x of the mirrored one, or
            w - 1 - x, see :func:`mirror`.

    Returns:
        tuple[Tensor, Tensor]: Of the same shapes.

    Example:
        >>> x = torch.tensor([[[0.0, 1.0, 2.0, 3.0]]])  # two pixels of two bins
        >>> flip_simcc(x, x, [0], 2, shift=False)[0]
        tensor([[[2., 1., 0., 0.]]])
        >>> flip_simcc(x, x, [0], 2, shift=True)[0]
        tensor([[[3., 3., 2., 1.]]])
    """
    num_bins = simcc_x.shape[-1]
    last_pixel = round(num_bins / split_ratio) - (0 if shift else 1)
    bins = torch.arange(num_bins, dtype=torch.float32, device=simcc_x.device)
    source = (last_pixel * split_ratio - bins).clamp(0, num_bins - 1)
    left = source.long()
    right = (left + 1).clamp(max=num_bins - 1)
    simcc_x = simcc_x[:, flip_indices]
    part = (source - left).to(simcc_x.dtype)
    return torch.lerp(simcc_x[..., left], simcc_x[..., right], part), simcc_y[:, flip_indices]


def average_flip(
    outputs: Union[Tensor, Vectors],
    mirrored: Union[Tensor, Vectors, None],
    flip_indices: Sequence[int],
    flip: str = 'exact',
    use_udp: bool = False,
    split_ratio: Optional[float] = None,
) -> Union[Tensor, Vectors]:
    """Mean of a network's outputs for images and for their mirror images.

    Args:
        outputs (Tensor | tuple[Tensor, Tensor]): Heatmaps, shape (B, K, H, W), or SimCC vectors
            along x and y, shapes (B, K, w * k) and (B, K, h * k).
        mirrored (Tensor | tuple[Tensor, Tensor]): The same for
            :func:`mirror_images` with the same ``flip`` and ``use_udp``; None for ``'none'``.
        flip_indices (sequence[int]): For each keypoint, its mirror image.
        flip (str): ``'exact'``; ``'stock'``, MMPose's, which moves a plain pipeline's maps by a
            whole cell (``shift_heatmap``) and reverses vectors; or ``'none'``, which gives
            ``outputs``.
        use_udp (bool): Whether the pipeline's ``TopdownAffine`` has ``use_udp``.
        split_ratio (float, optional): Bins a pixel k, for vectors.

    Returns:
        Tensor | tuple[Tensor, Tensor]: As ``outputs``.

    Raises:
        ValueError: There is no such flip, or the outputs are neither heatmaps nor vectors.

    Example:
        >>> maps = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 5)  # cell 2 of 5
        >>> mirrored = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]).view(1, 1, 1, 5)  # cell 5 - 2
        >>> average_flip(maps, mirrored, [0])
        tensor([[[[0., 0., 1., 0., 0.]]]])
    """
    check_choice('flip', flip, FLIPS)
    if flip == 'none':
        return outputs
    if isinstance(outputs, Tensor) and outputs.ndim == 4:
        return (outputs + flip_heatmaps(mirrored, flip_indices, shift=not use_udp)) * 0.5
    if isinstance(outputs, tuple) and [vectors.ndim for vectors in outputs] == [3, 3]:
        if flip == 'stock':
            flipped = flip_simcc(*mirrored, flip_indices, split_ratio=1, shift=False)
        else:
            flipped = flip_simcc(*mirrored, flip_indices, split_ratio, shift=not use_udp)
        x, y = ((v + f) * 0.5 for v, f in zip(outputs, flipped))
        return x, y
    shapes = [tuple(item.shape) for item in ([outputs] if isinstance(outputs, Tensor) else outputs)]
    raise invalid('outputs', shapes, 'heatmaps (B, K, H, W) or two tensors of vectors (B, K, bins)')
