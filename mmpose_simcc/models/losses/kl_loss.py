# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Optional, Sequence, Tuple

import torch
from mmpose.registry import MODELS
from torch import Tensor, nn

from ...functional import kl_divergence
from ...utils.checks import check_bool, check_choice, check_number


@MODELS.register_module()
class SimCCKLLoss(nn.Module):
    """KL divergence between SimCC labels and the softmax of the logits
    (SimCC, Section 3 "Coordinate classification").

    Computed in float32 whatever the dtype of the logits.

    A stock MMPose config moves over by renaming ``KLDiscretLoss`` and adding
    ``reduction='stock'``, with which the values are stock's. Distributed
    training takes the mean of the processes' gradients: with ``'mean'`` those
    of the global batch, with ``'stock'`` the sum over it divided by their
    number.

    Args:
        beta (float): Factor of the logits. Defaults to 1.
        label_softmax (bool): Whether labels pass a softmax. Defaults to
            False.
        label_beta (float): Factor of the labels before their softmax.
            Defaults to 10.
        use_target_weight (bool): Whether keypoint weights count. Defaults to
            True.
        mask (sequence[int], optional): Keypoints that are weighted by
            ``mask_weight``.
        mask_weight (float): Their weight. Defaults to 1.
        reduction (str): ``'mean'`` sums over the bins and averages over
            samples and keypoints. ``'stock'`` averages over bins and
            keypoints and sums over the samples, as ``KLDiscretLoss``.
            Defaults to ``'mean'``. SimCC's published code has neither: for
            equal label smoothing it sums over bins and keypoints and averages
            over samples (K times ``'mean'``), for Gaussian labels it averages
            over bins, keypoints and samples (about 1 / L of ``'mean'`` with L
            bins). Adam's steps do not depend on such a factor.
        loss_weight (float): Factor of the loss. Defaults to 1.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        beta: float = 1.0,
        label_softmax: bool = False,
        label_beta: float = 10.0,
        use_target_weight: bool = True,
        mask: Optional[Sequence[int]] = None,
        mask_weight: float = 1.0,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.beta = check_number('beta', beta, above=0)
        self.label_softmax = check_bool('label_softmax', label_softmax)
        self.label_beta = check_number('label_beta', label_beta, above=0)
        self.use_target_weight = check_bool('use_target_weight', use_target_weight)
        self.mask = mask
        self.mask_weight = check_number('mask_weight', mask_weight, low=0)
        self.reduction = check_choice('reduction', reduction, ('mean', 'stock'))
        self.loss_weight = check_number('loss_weight', loss_weight, low=0)

    def forward(
        self,
        pred_simcc: Tuple[Tensor, Tensor],
        gt_simcc: Tuple[Tensor, Tensor],
        target_weight: Tensor,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            pred_simcc (tuple[Tensor, Tensor]): Logits along x and y, shapes
                (N, K, w * k) and (N, K, h * k).
            gt_simcc (tuple[Tensor, Tensor]): Labels of the same shapes.
            target_weight (Tensor): Keypoint weights, shape (N, K).

        Returns:
            Tensor: A float32 scalar.
        """
        N, K = pred_simcc[0].shape[:2]
        loss = 0
        for logits, labels in zip(pred_simcc, gt_simcc):
            logits = logits.float()
            if self.beta != 1:  # times 1 would cost a pass over them, forward and backward
                logits = logits * self.beta
            if self.label_softmax:
                labels = torch.softmax(labels.float() * self.label_beta, -1)
            divergence = kl_divergence(logits, labels)
            if self.reduction == 'stock':
                divergence = divergence / logits.shape[-1]
            loss = loss + divergence
        if self.use_target_weight:
            loss = loss * target_weight.reshape(N, K)
        if self.mask is not None:
            weight = loss.new_ones(K)
            weight[list(self.mask)] = self.mask_weight
            loss = loss * weight
        loss = loss.sum() / K
        if self.reduction == 'mean':
            loss = loss / max(N, 1)
        return loss * self.loss_weight
