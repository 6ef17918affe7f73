# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""A top-down model that applies its whole calibration."""

import logging

import numpy as np
from mmengine.logging import print_log
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import MODELS
from mmpose.utils.typing import SampleList
from torch import Tensor

from ...utils.checks import invalid
from ...utils.inference import pose_head, weights_digest
from .exact_flip import ExactFlipPoseEstimator


@MODELS.register_module()
class CalibratedPoseEstimator(ExactFlipPoseEstimator):
    """``TopdownPoseEstimator`` whose head's decoder has a ``calibration``.

    The decoder alone already decodes as the file says. This model adds what a decoder cannot do:
    the flip test that the file was made with, ``keypoint_radius`` in ``pred_instances``, and a
    warning if the file was made for other weights.

    ``pred_instances.keypoint_radius`` has shape (1, K, 2): the radii, in image pixels, that hold
    the truth with probabilities 0.5 and 0.9. Where the file has another score of a person than
    MMPose's, it becomes ``pred_instances.bbox_scores``; for ``CocoMetric`` to rank people by it,
    set its ``score_mode='bbox'``.

    Raises:
        ValueError: The decoder has no calibration.

    Example::

        mim test mmpose CONFIG --checkpoint CHECKPOINT --cfg-options \\
            custom_imports.imports=mmpose_simcc model.type=CalibratedPoseEstimator \\
            model.head.decoder.calibration=decoder.json
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        codec = pose_head(self).decoder
        self.calibration = getattr(codec, 'calibration', None)
        if self.calibration is None:
            raise invalid(
                'model.head.decoder.calibration', None, 'given for CalibratedPoseEstimator'
            )
        flip = self.calibration.flip_test
        self.test_cfg = {**(self.test_cfg or {}), 'flip_test': flip != 'none'}
        if flip == 'stock' and hasattr(codec, 'heatmap_size'):
            self.test_cfg.setdefault('shift_heatmap', not codec.use_udp)
        self._has_checked = False

    def predict(self, inputs: Tensor, data_samples: SampleList) -> SampleList:
        """Predict keypoints of a batch, see :class:`TopdownPoseEstimator`."""
        if not self._has_checked:
            self._check_weights()
        if self.calibration.flip_test == 'exact':
            return super().predict(inputs, data_samples)
        return TopdownPoseEstimator.predict(self, inputs, data_samples)

    def _check_weights(self) -> None:
        self._has_checked = True
        if self.calibration.model not in (None, weights_digest(self)):
            print_log(
                'the calibration of the decoder was made for other weights than the model has: '
                'make a new one with tools/calibrate.py',
                'current',
                logging.WARNING,
            )

    def add_pred_to_datasample(self, batch_pred_instances, batch_pred_fields, batch_data_samples):
        """Map predictions to the image, see :class:`TopdownPoseEstimator`."""
        codec = pose_head(self).decoder
        calibration = getattr(codec, 'calibration', None)  # a comparison gives it others
        for instances, sample in zip(batch_pred_instances, batch_data_samples):
            scores = np.asarray(instances.keypoint_scores)
            if calibration and calibration.radii:
                image_pixels = np.divide(sample.metainfo['input_scale'], sample.input_size)
                instances.keypoint_radius = codec.keypoint_radius(scores) * image_pixels.mean()
        samples = super().add_pred_to_datasample(
            batch_pred_instances, batch_pred_fields, batch_data_samples
        )
        if calibration and calibration.instance_score != 'bbox_keypoint':
            for sample in samples:
                instances = sample.pred_instances
                instances.bbox_scores = calibration.score_instance(
                    instances.keypoint_scores, instances.bbox_scores
                )
        return samples
