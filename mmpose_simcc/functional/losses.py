# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Losses: pure functions, batched over every leading dimension."""

import torch
from torch import Tensor


def kl_divergence(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of a softmax from labels (SimCC, Section
    3 "Coordinate classification").

    .. math:: \sum_i t_i (\log t_i - \log \mathrm{softmax}(z)_i)

    In float32 whatever the dtype of the logits. A bin whose label is 0 adds nothing, also where
    its logit is -inf; where a label is above 0 and the logit is -inf, the divergence is inf.
    Labels need not sum to 1.

    Args:
        logits (Tensor): z, shape (..., L).
        labels (Tensor): t >= 0, shape (..., L).

    Returns:
        Tensor: Shape (...), float32.

    Example:
        >>> kl_divergence(torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        tensor([1.3863])
    """
    labels = labels.float()
    counts = labels > 0
    negative_entropy = (labels * torch.where(counts, labels, 1.0).log()).sum(-1)
    log_probabilities = torch.where(counts, logits.float().log_softmax(-1), 0.0)
    return negative_entropy - (labels * log_probabilities).sum(-1)
