# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""A top-down model with an exact flip test."""

from contextlib import contextmanager
from typing import Iterator, Sequence

from mmpose.codecs import UDPHeatmap
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import MODELS
from mmpose.utils.typing import Features, SampleList
from torch import Tensor

from ...functional import average_flip, mirror_images
from ...utils.checks import invalid
from ...utils.inference import pose_head


@MODELS.register_module()
class ExactFlipPoseEstimator(TopdownPoseEstimator):
    """``TopdownPoseEstimator`` whose flip test mirrors about the centre of the box, as
    ``RandomFlip`` does in training.

    The model makes the mirror image and averages its outputs with those of the image
    (:func:`average_flip`); the head decodes the mean as if there were no flip test. So
    ``test_cfg.flip_test`` is all that has to be set, in any frame, at any stride and for any head
    whose outputs are heatmaps or SimCC vectors, MMPose's included. ``test_cfg.shift_heatmap`` is
    not used. The frame is that of the head's decoder. With ``type='TopdownPoseEstimator'`` the
    same config has MMPose's flip test, which is half a pixel off.

    Raises:
        ValueError: In a flip test, the head's outputs are neither heatmaps nor SimCC vectors.

    Example::

        mim test mmpose CONFIG --checkpoint CHECKPOINT --cfg-options \\
            custom_imports.imports=mmpose_simcc model.type=ExactFlipPoseEstimator
    """

    def predict(self, inputs: Tensor, data_samples: SampleList) -> SampleList:
        """Predict keypoints of a batch.

        Args:
            inputs (Tensor): Input images, shape (B, 3, h, w).
            data_samples (list[:obj:`PoseDataSample`]): The samples.

        Returns:
            list[:obj:`PoseDataSample`]: The samples with ``pred_instances``, and with
            ``pred_fields`` where ``test_cfg.output_heatmaps`` is set.
        """
        if not self.test_cfg.get('flip_test', False):
            return super().predict(inputs, data_samples)
        mode = self.test_cfg.get('flip_mode', 'heatmap')
        if mode != 'heatmap':
            raise invalid(
                'test_cfg.flip_mode', mode, "'heatmap'; stock's TopdownPoseEstimator has others"
            )
        mirrored_feats = self.extract_feat(mirror_images(inputs, 'exact', reads_udp_crops(self)))
        flip_indices = data_samples[0].metainfo['flip_indices']
        with averaged_with_mirrored(self, mirrored_feats, flip_indices):
            preds = self.head.predict(
                self.extract_feat(inputs), data_samples, {**self.test_cfg, 'flip_test': False}
            )
        instances, fields = preds if isinstance(preds, tuple) else (preds, None)
        return self.add_pred_to_datasample(instances, fields, data_samples)


def reads_udp_crops(model: TopdownPoseEstimator) -> bool:
    """Whether a model's codec is for ``TopdownAffine(use_udp=True)``."""
    codec = pose_head(model).decoder
    return getattr(codec, 'use_udp', isinstance(codec, UDPHeatmap))


@contextmanager
def averaged_with_mirrored(
    model: TopdownPoseEstimator, mirrored_feats: Features, flip_indices: Sequence[int]
) -> Iterator[None]:
    """While this lasts, the ``forward`` of a model's head gives the mean of the outputs for the
    features that it gets and of those for the mirror images. All heads call ``forward`` in
    ``predict``, so this works for each of them.

    Args:
        model (TopdownPoseEstimator): The model.
        mirrored_feats (tuple[Tensor]): The features of :func:`mirror_images`.
        flip_indices (sequence[int]): For each keypoint, its mirror image.
    """
    head, use_udp = pose_head(model), reads_udp_crops(model)
    forward = head.forward

    def averaged(feats):
        outputs, mirrored = forward(feats), forward(mirrored_feats)
        if isinstance(outputs, list):  # of several stages; the last is decoded
            outputs, mirrored = outputs[-1], mirrored[-1]
            return [average_flip(outputs, mirrored, flip_indices, 'exact', use_udp)]
        split_ratio = getattr(head.decoder, 'simcc_split_ratio', None)
        return average_flip(outputs, mirrored, flip_indices, 'exact', use_udp, split_ratio)

    head.forward = averaged  # hides the class's method
    if head is not model.head:  # it is inside a VisPredictHead
        visibility = model.head.vis_forward
        model.head.vis_forward = lambda feats: (
            (visibility(feats) + visibility(mirrored_feats)[:, flip_indices]) * 0.5
        )
    try:
        yield
    finally:
        del head.forward
        model.head.__dict__.pop('vis_forward', None)
