# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from abc import abstractmethod
from typing import List, Optional, Tuple

import numpy as np
import torch
from mmpose.codecs.base import BaseKeypointCodec
from torch import Tensor

from ..checks import invalid


class TensorCodec(BaseKeypointCodec):
    """A codec over batched tensor functions.

    Subclasses decode in :meth:`decode_tensors`; from it follow MMPose's
    :meth:`decode` (one sample, numpy) and :meth:`batch_decode` (a batch, on
    its own device; only coordinates and scores are copied to the host).
    """

    @abstractmethod
    def decode_tensors(self, *encoded: Tensor) -> Tuple[Tensor, Tensor]:
        """Decode a batch and stay on its device.

        Args:
            encoded (Tensor): Network outputs, shape (B, K, ...).

        Returns:
            tuple:
            - keypoints (Tensor): Input-image pixels, shape (B, K, 2).
            - scores (Tensor): Shape (B, K).
        """

    def decode(self, *encoded: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Decode one sample.

        Args:
            encoded (np.ndarray): The network outputs of one sample, as for
                :meth:`decode_tensors` but without the batch dimension.

        Returns:
            tuple:
            - keypoints (np.ndarray): Input-image pixels, shape (1, K, 2).
            - scores (np.ndarray): Shape (1, K).
        """
        with torch.inference_mode():
            keypoints, scores = self.decode_tensors(
                *(torch.as_tensor(item).unsqueeze(0) for item in encoded))
        return keypoints.numpy(), scores.numpy()

    def batch_decode(
            self,
            *batch_encoded: Tensor) -> Tuple[List[np.ndarray], List]:
        """Decode a batch on the device of its tensors.

        Args:
            batch_encoded (Tensor): See :meth:`decode_tensors`.

        Returns:
            tuple: Lists over the batch.
            - batch_keypoints: Input-image pixels, each of shape (1, K, 2).
            - batch_scores: Each of shape (1, K).
        """
        with torch.no_grad():
            keypoints, scores = self.decode_tensors(*batch_encoded)
            # one copy to the host for both
            packed = torch.cat([keypoints, scores.unsqueeze(-1)], dim=-1)
            packed = packed.unsqueeze(1).cpu().numpy()
        return list(packed[..., :2]), list(packed[..., 2])


def as_keypoints(
    keypoints: np.ndarray,
    keypoints_visible: Optional[np.ndarray] = None
) -> Tuple[Tensor, Tensor]:
    """Check and convert what ``encode`` gets.

    Args:
        keypoints (np.ndarray): Pixels, shape (N, K, 2).
        keypoints_visible (np.ndarray, optional): Shape (N, K). All visible
            by default.

    Returns:
        tuple: float32 tensors (N, K, 2) and (N, K).

    Raises:
        ValueError: A shape is another.
    """
    keypoints = np.asarray(keypoints)
    if keypoints.ndim != 3 or keypoints.shape[-1] != 2:
        raise invalid('keypoints', keypoints.shape,
                      'an array of shape (N, K, 2)')
    if keypoints_visible is None:
        keypoints_visible = np.ones(keypoints.shape[:2], dtype=np.float32)
    keypoints_visible = np.asarray(keypoints_visible)
    if keypoints_visible.shape != keypoints.shape[:2]:
        raise invalid('keypoints_visible', keypoints_visible.shape,
                      f'an array of shape (N, K) = {keypoints.shape[:2]}')
    return (torch.from_numpy(keypoints.astype(np.float32)),
            torch.from_numpy(keypoints_visible.astype(np.float32)))


def check_maps(name: str, maps: Tensor, shape: Tuple[int, ...]) -> Tensor:
    """Check network outputs of shape (B, K, *shape) and return them as
    float32 or float64.

    Raises:
        ValueError: They have another shape or are not floating point.
    """
    if maps.ndim != 2 + len(shape) or tuple(maps.shape[2:]) != tuple(shape):
        raise invalid(name, tuple(maps.shape),
                      f'a tensor of shape (B, K, {", ".join(map(str, shape))})'
                      ' (B is absent for one sample)')
    if not maps.is_floating_point():
        raise invalid(name, maps.dtype, 'a floating-point tensor')
    if maps.dtype not in (torch.float32, torch.float64):
        maps = maps.float()
    return maps
