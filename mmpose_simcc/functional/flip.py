# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Flip test for SimCC vectors."""

from typing import Sequence, Tuple

import torch
from torch import Tensor


def flip_simcc(
    simcc_x: Tensor, simcc_y: Tensor, flip_indices: Sequence[int], split_ratio: float
) -> Tuple[Tensor, Tensor]:
    """What the vectors of a mirrored image say of the image itself.

    Mirroring moves pixel x to w - 1 - x, that is bin j to (w - 1) k - j; for k > 1 this is not
    the reversed vector, which would be (k - 1) / k pixels off. A bin between two others is
    interpolated, the k - 1 bins right of the last pixel repeat their neighbour.

    Args:
        simcc_x (Tensor): Logits along x, shape (B, K, w * k), rounded.
        simcc_y (Tensor): Logits along y, shape (B, K, h * k), rounded.
        flip_indices (sequence[int]): For each keypoint, its mirror image.
        split_ratio (float): Bins a pixel k.

    Returns:
        tuple[Tensor, Tensor]: Of the same shapes.

    Example:
        >>> x = torch.tensor([[[0.0, 1.0, 2.0, 3.0]]])  # two pixels of two bins
        >>> flip_simcc(x, x, [0], 2)[0]
        tensor([[[2., 1., 0., 0.]]])
    """
    num_bins = simcc_x.shape[-1]
    width = round(num_bins / split_ratio)
    bins = torch.arange(num_bins, dtype=torch.float32, device=simcc_x.device)
    source = ((width - 1) * split_ratio - bins).clamp(0, num_bins - 1)
    left = source.long()
    right = (left + 1).clamp(max=num_bins - 1)
    simcc_x = simcc_x[:, flip_indices]
    part = (source - left).to(simcc_x.dtype)
    return torch.lerp(simcc_x[..., left], simcc_x[..., right], part), simcc_y[:, flip_indices]


def average_flip_simcc(
    simcc: Tuple[Tensor, Tensor],
    simcc_mirrored: Tuple[Tensor, Tensor],
    flip_indices: Sequence[int],
    split_ratio: float,
) -> Tuple[Tensor, Tensor]:
    """Flip test: the mean of an image's vectors and its mirror image's.

    Args:
        simcc (tuple[Tensor, Tensor]): Vectors along x and y of the image, shapes (B, K, w * k)
            and (B, K, h * k).
        simcc_mirrored (tuple[Tensor, Tensor]): Those of the mirrored image.
        flip_indices (sequence[int]): See :func:`flip_simcc`.
        split_ratio (float): Bins a pixel k.

    Returns:
        tuple[Tensor, Tensor]: Of the same shapes.

    Example:
        >>> x = torch.tensor([[[0.0, 1.0, 2.0]]])  # one bin a pixel
        >>> average_flip_simcc((x, x), (x, x), [0], 1)
        (tensor([[[1., 1., 1.]]]), tensor([[[0., 1., 2.]]]))
    """
    flipped = flip_simcc(*simcc_mirrored, flip_indices, split_ratio)
    mean_x, mean_y = ((v + f) * 0.5 for v, f in zip(simcc, flipped))
    return mean_x, mean_y
