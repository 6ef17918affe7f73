# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Losses: pure functions, batched over every leading dimension."""

import math

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
    log_labels = torch.where(counts, labels, 1.0).log()
    log_probabilities = torch.where(counts, logits.float().log_softmax(-1), 0.0)
    return (labels * (log_labels - log_probabilities)).sum(-1)


def kl_divergence_equal(logits: Tensor, bins: Tensor, smoothing: float) -> Tensor:
    r"""Kullback-Leibler divergence of a softmax from equally smoothed labels
    (SimCC, Section 3 "Label smoothing"), without the labels.

    The value of :func:`kl_divergence` for labels with :math:`1 - e` at a bin
    and :math:`e / (B - 1)` at the others. As :math:`\log p_i = z_i - \log
    \sum_j \exp z_j`, the sum over the bins needs no more than a sum of logits:

    .. math::
        \log \sum_j \exp z_j - \left(1 - e - \tfrac{e}{B-1}\right) z_c
        - \tfrac{e}{B-1} \sum_i z_i - H(t)

    Args:
        logits (Tensor): z, shape (..., B).
        bins (Tensor): c, the right bins, int64, shape (...).
        smoothing (float): e, the part given to the other bins, in [0, 1).

    Returns:
        Tensor: Shape (...), float32.

    Example:
        >>> kl_divergence_equal(torch.zeros(1, 4), torch.tensor([0]), smoothing=0.0)
        tensor([1.3863])
    """
    others = logits.shape[-1] - 1
    share = smoothing / others
    entropy = 0.0
    if smoothing > 0:
        entropy = -((1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(share))
    logits = logits.float()
    right = logits.gather(-1, bins.unsqueeze(-1)).squeeze(-1)
    cross_entropy = logits.logsumexp(-1) - (1 - smoothing - share) * right
    if smoothing > 0:
        cross_entropy = cross_entropy - share * logits.sum(-1)
    return cross_entropy - entropy
