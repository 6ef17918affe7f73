# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Losses: pure functions, batched over every leading dimension."""
import torch
import torch.nn.functional as F
from torch import Tensor


def kl_divergence(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of a softmax from labels (SimCC, Section
    3 "Coordinate classification").

    .. math:: \sum_i t_i (\log t_i - \log \mathrm{softmax}(z)_i)

    In float32 whatever the dtype of the logits. Bins with a label of 0 count
    nothing. Labels need not sum to 1.

    Args:
        logits (Tensor): z, shape (..., L).
        labels (Tensor): t >= 0, shape (..., L).

    Returns:
        Tensor: Shape (...), float32.
    """
    shape = logits.shape[:-1]
    logits = logits.flatten(0, -2).float()
    labels = labels.flatten(0, -2).float()
    cross_entropy = F.cross_entropy(logits, labels, reduction='none')
    entropy = torch.special.entr(labels).sum(dim=-1)
    return (cross_entropy - entropy).reshape(shape)
