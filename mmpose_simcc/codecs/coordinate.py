# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Optional

import numpy as np
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.registry import KEYPOINT_CODECS

from .base import as_keypoints


@KEYPOINT_CODECS.register_module()
class CoordinateCodec(BaseKeypointCodec):
    """Passes coordinates on, for :class:`TargetDataPreprocessor` to make the
    dense labels on the training device. It does not decode."""

    label_mapping_table = dict(
        keypoint_labels='keypoint_labels',
        keypoints_visible='keypoints_visible',
        keypoint_weights='keypoint_weights',
    )

    def encode(self, keypoints: np.ndarray, keypoints_visible: Optional[np.ndarray] = None) -> dict:
        """Pass on one sample.

        Args:
            keypoints (np.ndarray): Input-image pixels, shape (N, K, 2).
            keypoints_visible (np.ndarray, optional): Shape (N, K).

        Returns:
            dict:
            - keypoint_labels (np.ndarray): The coordinates, (N, K, 2).
            - keypoints_visible (np.ndarray): Shape (N, K).
            - keypoint_weights (np.ndarray): Ones of shape (N, K), to which
              MMPose multiplies a data set's keypoint weights.

        Raises:
            ValueError: A shape is another.
        """
        keypoints, visible = as_keypoints(keypoints, keypoints_visible)
        return dict(
            keypoint_labels=keypoints,
            keypoints_visible=visible,
            keypoint_weights=np.ones_like(visible),
        )

    def decode(self, encoded):
        raise NotImplementedError(
            'CoordinateCodec only encodes; decode with the codec of TargetDataPreprocessor'
        )
