# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from abc import abstractmethod
from typing import Tuple

import torch
from mmengine.structures import PixelData
from mmpose.models.heads.base_head import BaseHead
from mmpose.utils.typing import Features, OptConfigType, OptSampleList, Predictions
from torch import Tensor

from ...functional import flip_simcc, vector_argmax

Vectors = Tuple[Tensor, Tensor]


class BaseSimCCHead(BaseHead):
    """Base of heads that give each keypoint a vector along x and one along y.
    Subclasses implement ``forward``, :meth:`_loss` and :meth:`_responses`;
    ``decoder`` is a :class:`SimCCCodec`."""

    @abstractmethod
    def _loss(self, pred: Vectors, target: Vectors, weights: Tensor) -> Tensor:
        """The loss of outputs (B, K, bins) for labels and weights (B, K)."""

    @abstractmethod
    def _responses(self, pred: Vectors) -> Vectors:
        """Outputs for display: in [0, 1], 1 for a perfect prediction."""

    def predict(
        self,
        feats: Features,
        batch_data_samples: OptSampleList,
        test_cfg: OptConfigType = {},
    ) -> Predictions:
        """Predict keypoints from features.

        Args:
            feats (tuple[Tensor] | list[tuple[Tensor]]): The features, or for
                the flip test those of the image and of its mirror image.
            batch_data_samples (list[:obj:`PoseDataSample`]): The samples.
            test_cfg (dict): ``flip_test`` averages the outputs of both;
                ``output_heatmaps`` also returns the responses.

        Returns:
            list[InstanceData] | tuple: Predictions with ``keypoints`` (1, K,
            2) in input-image pixels and ``keypoint_scores`` (1, K). With
            ``output_heatmaps`` also ``keypoint_x_labels`` and
            ``keypoint_y_labels``, the responses relative to a perfect
            prediction in [0, 1], shape (1, K, bins), and a list of
            ``PixelData`` with ``heatmaps``, their product (K, h * k, w * k).
        """
        if test_cfg.get('flip_test', False):
            feats, feats_flip = feats
            flipped = flip_simcc(
                *self.forward(feats_flip),
                batch_data_samples[0].metainfo['flip_indices'],
                self.decoder.simcc_split_ratio,
                shift=False,  # TopdownPoseEstimator's mirror image has pixel x at w - 1 - x
            )
            pred = tuple((v + f) * 0.5 for v, f in zip(self.forward(feats), flipped))
        else:
            pred = self.forward(feats)

        preds = self.decode(pred)
        if not test_cfg.get('output_heatmaps', False):
            return preds

        responses = [r.detach() for r in self._responses(pred)]
        for instances, x, y in zip(preds, *(r.cpu().numpy() for r in responses)):
            instances.keypoint_x_labels = x[None]
            instances.keypoint_y_labels = y[None]
        heatmaps = responses[1].unsqueeze(-1) * responses[0].unsqueeze(-2)
        return preds, [PixelData(heatmaps=maps) for maps in heatmaps]

    def loss(
        self,
        feats: Tuple[Tensor],
        batch_data_samples: OptSampleList,
        train_cfg: OptConfigType = {},
    ) -> dict:
        """Losses of a batch.

        Args:
            feats (tuple[Tensor]): The features.
            batch_data_samples (list[:obj:`PoseDataSample`]): The samples,
                with labels in ``gt_instance_labels``.
            train_cfg (dict): ``compute_acc`` (True by default) also gives
                the training accuracy.

        Returns:
            dict: ``loss_kpt``, and ``acc_pose``: the part of keypoints
            whose argmax lies within 5% of the image size of the label's.
        """
        pred = self.forward(feats)
        labels = [d.gt_instance_labels for d in batch_data_samples]
        target = (
            torch.cat([label.keypoint_x_labels for label in labels]),
            torch.cat([label.keypoint_y_labels for label in labels]),
        )
        weights = torch.cat([label.keypoint_weights for label in labels])
        losses = dict(loss_kpt=self._loss(pred, target, weights))
        if train_cfg.get('compute_acc', True):
            losses.update(acc_pose=_accuracy(pred, target, weights > 0))
        return losses


@torch.no_grad()
def _accuracy(pred: Vectors, target: Vectors, mask: Tensor, thr: float = 0.05) -> Tensor:
    """PCK normalised by the image size, over the keypoints in ``mask``."""
    squared = 0
    for vectors, label in zip(pred, target):
        offset = (vector_argmax(vectors)[0] - vector_argmax(label)[0]) / vectors.shape[-1]
        squared = squared + offset.square()
    correct = (squared < thr**2) & mask
    return correct.sum() / mask.sum().clamp(min=1)
