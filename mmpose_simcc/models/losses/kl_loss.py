# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Optional, Sequence, Tuple

import torch
from mmpose.registry import MODELS
from torch import Tensor, nn

from ...functional import kl_divergence, kl_divergence_equal
from ...utils.checks import check_choice, check_number, invalid


@MODELS.register_module()
class SimCCKLLoss(nn.Module):
    """KL divergence between SimCC labels and the softmax of the logits
    (SimCC, Section 3 "Coordinate classification").

    Computed in float32 whatever the dtype of the logits. One-hot and equally
    smoothed labels may be given as bins, see ``dense_labels`` of
    :class:`SimCCCodec`: the value is the same, and no vector is read.

    ``SimCCKLLoss()`` sums over the bins and averages over samples and
    keypoints, as the published code does with equal label smoothing.
    A stock MMPose config moves over by renaming ``KLDiscretLoss``: as soon as
    one of stock's arguments is given, the values are stock's, which averages
    over the bins and sums over the samples. Distributed training takes the
    mean of the processes' gradients: with ``'paper'`` those of the global
    batch, with ``'stock'`` the sum over it divided by their number.

    Args:
        beta (float, optional): Factor of the logits. 1 by default.
        label_softmax (bool, optional): Whether labels pass a softmax. False
            by default.
        label_beta (float, optional): Factor of the labels before their
            softmax. 10 by default.
        use_target_weight (bool, optional): Whether keypoint weights count.
            True by default.
        mask (sequence[int], optional): Keypoints that are weighted by
            ``mask_weight``.
        mask_weight (float, optional): Their weight. 1 by default.
        reduction (str, optional): ``'paper'`` or ``'stock'``, see above.
            Follows from the arguments by default.
        smoothing (float): The part that labels given as bins leave to the
            other bins, in [0, 1). :class:`SimCCClassifierHead` takes it from
            its decoder. Defaults to 0, one-hot.
        loss_weight (float): Factor of the loss. Defaults to 1.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        beta: Optional[float] = None,
        label_softmax: Optional[bool] = None,
        label_beta: Optional[float] = None,
        use_target_weight: Optional[bool] = None,
        mask: Optional[Sequence[int]] = None,
        mask_weight: Optional[float] = None,
        reduction: Optional[str] = None,
        smoothing: float = 0.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        stock = (beta, label_softmax, label_beta, use_target_weight, mask, mask_weight)
        if reduction is None:
            is_stock = any(value is not None for value in stock)
            reduction = 'stock' if is_stock else 'paper'
        self.reduction = check_choice('reduction', reduction, ('paper', 'stock'))
        self.beta = 1.0 if beta is None else check_number('beta', beta, above=0)
        self.label_softmax = bool(label_softmax)
        self.label_beta = (
            10.0 if label_beta is None else check_number('label_beta', label_beta, above=0)
        )
        self.use_target_weight = use_target_weight in (None, True)
        self.mask = mask
        self.mask_weight = (
            1.0 if mask_weight is None else check_number('mask_weight', mask_weight, low=0)
        )
        self.smoothing = check_number('smoothing', smoothing, low=0, below=1)
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
            gt_simcc (tuple[Tensor, Tensor]): Labels of the same shapes, or
                bins, int64, shape (N, K).
            target_weight (Tensor): Keypoint weights, shape (N, K).

        Returns:
            Tensor: A float32 scalar.
        """
        N, K = pred_simcc[0].shape[:2]
        loss = 0
        for logits, labels in zip(pred_simcc, gt_simcc):
            divergence = self._divergence(logits, labels)
            if self.reduction == 'stock':
                divergence = divergence / logits.shape[-1]
            loss = loss + divergence
        if self.use_target_weight:
            loss = loss * target_weight.reshape(N, -1)
        if self.mask is not None:
            weight = loss.new_ones(K)
            weight[list(self.mask)] = self.mask_weight
            loss = loss * weight
        loss = loss.sum() / K
        if self.reduction == 'paper':
            loss = loss / N
        return loss * self.loss_weight

    def _divergence(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        if self.beta != 1:
            logits = logits * self.beta
        if labels.ndim < logits.ndim:
            if self.label_softmax:
                raise invalid('label_softmax', self.label_softmax, 'False for labels that are bins')
            return kl_divergence_equal(logits, labels, self.smoothing)
        if self.label_softmax:
            labels = torch.softmax(labels.float() * self.label_beta, -1)
        return kl_divergence(logits, labels)
