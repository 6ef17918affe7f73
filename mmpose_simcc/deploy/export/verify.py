# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Compares an exported model with the model in PyTorch."""

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
from mmpose.models import TopdownPoseEstimator
from mmpose.structures import PoseDataSample
from torch import Tensor

from ...utils.inference import pose_head
from ..client import PoseSession
from .graph import DeployModel

BATCH_SIZES = (1, 3, 8)
TOLERANCE = 0.05  # pixels
SCORE_TOLERANCE = 0.01  # of calibrated scores, which lie in [0, 1]
# Noise that must not move PyTorch's own answer, relative to the largest response: more than
# float32 rounding, less than what matters.
NOISE = 1e-5
NUM_DRAWS = 4


class ExportError(ValueError):
    """The exported model does not do what the model does."""


@dataclass
class Agreement:
    """How far an exported model is from PyTorch.

    Attributes:
        max_diff (float): Largest difference of a coordinate in pixels.
        compared (int): Keypoints compared.
        unstable (int): Keypoints left out, since rounding alone moves them in
            PyTorch: two maxima are equal, or a refinement divides by nearly
            nothing.
        max_score_diff (float, optional): Largest difference of a calibrated
            score.
    """

    max_diff: float
    compared: int
    unstable: int
    max_score_diff: Optional[float] = None

    def __str__(self) -> str:
        text = f'largest difference {self.max_diff:.2g} px over {self.compared} keypoints'
        if self.max_score_diff is not None:
            text += f', of calibrated scores {self.max_score_diff:.2g}'
        if self.unstable:
            text += f' ({self.unstable} more left out: rounding moves them in PyTorch itself)'
        return text


def made_up_crops(batch_size: int, size: Tuple[int, int], seed: int) -> np.ndarray:
    """Pictures of random rectangles, uint8, shape (B, h, w, 3)."""
    rng = np.random.default_rng(seed)
    w, h = size
    crops = np.zeros((batch_size, h, w, 3), np.uint8)
    for crop in crops:
        for _ in range(20):
            corners = rng.integers(0, (w, h), (2, 2)).tolist()
            cv2.rectangle(crop, *corners, rng.integers(0, 256, 3).tolist(), -1)
        crop[:] = cv2.add(crop, rng.integers(0, 30, crop.shape, np.uint8))
    return crops


class Reference:
    """A model's own answer for crops, without flip test: MMPose prepares them
    and runs the network, the codec decodes.

    Args:
        model (TopdownPoseEstimator): The model, in evaluation mode.
        deployed (DeployModel): What is exported of it.
    """

    def __init__(self, model: TopdownPoseEstimator, deployed: DeployModel) -> None:
        self.model = model
        self.codec = deployed.decode.codec
        self.reads_argmax = deployed.decode.output == 'simcc'

    def responses(self, crops: np.ndarray) -> Tuple[Tensor, ...]:
        """The head's outputs for crops (B, h, w, 3), uint8, BGR."""
        images = list(torch.from_numpy(crops).permute(0, 3, 1, 2))
        samples = [PoseDataSample() for _ in images]
        data = self.model.data_preprocessor(dict(inputs=images, data_samples=samples))
        responses = pose_head(self.model)(self.model.extract_feat(data['inputs']))
        return (responses,) if isinstance(responses, Tensor) else responses

    def decode(self, responses: Sequence[Tensor]) -> np.ndarray:
        """Keypoints (B, K, 2) in pixels."""
        if not self.reads_argmax:
            return self.codec.decode_tensors(*responses)[0].numpy()
        if self.codec.calibration:
            bins = (
                self.codec.decode_tensors(*responses)[0].numpy() / self.codec.decoded_scale_factor
            )
            bins = bins.round().clip(0, np.array(self.codec.num_bins) - 1)
        else:
            bins = torch.stack([vectors.argmax(-1) for vectors in responses], -1).numpy()
        return bins * self.codec.decoded_scale_factor

    def is_stable(self, responses: Sequence[Tensor], keypoints: np.ndarray) -> np.ndarray:
        """Which keypoints rounding does not move, shape (B, K)."""
        generator = torch.Generator().manual_seed(0)
        stable = np.ones(keypoints.shape[:2], bool)
        for _ in range(NUM_DRAWS):
            moved = self.decode([_with_noise(maps, generator) for maps in responses])
            stable &= (np.abs(moved - keypoints) < TOLERANCE).all(-1)
        return stable


def _with_noise(responses: Tensor, generator: torch.Generator) -> Tensor:
    """Noise relative to the largest response of each sample."""
    largest = responses.abs().amax(dim=tuple(range(1, responses.ndim)), keepdim=True)
    size = torch.where(largest > 0, largest, 1.0)
    return responses + NOISE * size * torch.randn(responses.shape, generator=generator)


def predict_crops(
    session: PoseSession, deployed: DeployModel, crops: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """What a client finds in crops (B, h, w, 3), uint8, BGR: keypoints (B, K, 2) in pixels, and
    scores (B, K). The codec decodes what a file with ``--output raw`` gives."""
    if deployed.decode.output != 'raw':
        return session.predict_crops(crops)
    return deployed.decode.codec.decode_tensors(*session.run(crops))


@torch.no_grad()
def compare_with_pytorch(
    session: PoseSession,
    model: TopdownPoseEstimator,
    deployed: DeployModel,
) -> Agreement:
    """Compare keypoints on made-up pictures, in batches of several sizes.

    Args:
        session (PoseSession): The exported model.
        model (TopdownPoseEstimator): The model, in evaluation mode.
        deployed (DeployModel): What was exported of it.

    Returns:
        Agreement: The largest difference.

    Raises:
        ExportError: It is above 0.05 px, or 0.01 of a calibrated score, a
            score is not finite, or no keypoint can be compared.
    """
    reference = Reference(model, deployed)
    is_calibrated = deployed.decode.calibration is not None
    differences, score_differences, unstable = [], [], 0
    for seed, batch_size in enumerate(BATCH_SIZES):
        crops = made_up_crops(batch_size, session.input_size, seed)
        responses = reference.responses(crops)
        expected = reference.decode(responses)
        try:
            keypoints, scores = predict_crops(session, deployed, crops)
        except Exception as error:  # onnxruntime has a type for each reason
            raise ExportError(
                f'onnxruntime fails on a batch of {batch_size}: {" ".join(str(error).split())}'
            ) from error
        if keypoints.shape != expected.shape or not np.isfinite(scores).all():
            raise ExportError(
                f'onnxruntime gives keypoints of shape {keypoints.shape}, '
                f'PyTorch {expected.shape}; scores from {scores.min()} to '
                f'{scores.max()}'
            )
        stable = reference.is_stable(responses, expected)
        unstable += int((~stable).sum())
        differences.append(np.abs(keypoints - expected)[stable])
        if is_calibrated:
            _, calibrated = reference.codec.decode_tensors(*responses)
            score_differences.append(np.abs(scores - calibrated.numpy())[stable])
    differences = np.concatenate(differences)
    if not len(differences):
        raise ExportError(
            'nothing can be compared with PyTorch: no output of this model has a clear maximum'
        )
    agreement = Agreement(float(differences.max()), len(differences), unstable)
    if is_calibrated:
        agreement.max_score_diff = float(np.concatenate(score_differences).max())
    if not (agreement.max_diff <= TOLERANCE and (agreement.max_score_diff or 0) <= SCORE_TOLERANCE):
        raise ExportError(f'onnxruntime and PyTorch disagree: {agreement}')
    return agreement
