# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What another precision costs: keypoints that move, and MMPose's metrics."""

from typing import Dict, Iterator, List, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmpose.models import TopdownPoseEstimator

from ...utils.console import silenced, track
from ...workbench.scoring import Scorer, predict
from ..client import PoseSession
from .graph import DeployModel
from .verify import made_up_crops, predict_crops

MOVED = 0.1  # pixels that count as another place
MADE_UP = 64  # crops to compare on where there are no test data


class MovedKeypoints:
    """Counts the keypoints that one version of a model finds elsewhere than the other.

    Args:
        name (str): Where the pictures come from.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.distances: List[np.ndarray] = []

    def add(self, keypoints: np.ndarray, others: np.ndarray) -> None:
        """Two versions' keypoints, (B, K, 2), in input pixels."""
        self.distances.append(np.abs(keypoints - others).max(axis=-1).ravel())

    def __str__(self) -> str:
        distances = np.concatenate(self.distances)
        part = 100 * (distances > MOVED).mean()
        return (
            f'{part:.2f}% of {len(distances)} keypoints on {self.name} move by more than '
            f'{MOVED} px, at most by {distances.max():.2f} px'
        )


def compare_on_made_up(
    full: PoseSession, low: PoseSession, deployed: DeployModel
) -> MovedKeypoints:
    """Compare two versions of a model on made-up pictures."""
    moved = MovedKeypoints('made-up pictures')
    crops = made_up_crops(MADE_UP, full.input_size, seed=0)
    moved.add(*(predict_crops(session, deployed, crops)[0] for session in (full, low)))
    return moved


def evaluate_sessions(
    full: PoseSession,
    low: PoseSession,
    cfg: Config,
    model: TopdownPoseEstimator,
    deployed: DeployModel,
) -> Tuple[MovedKeypoints, Dict[str, Tuple[float, float]]]:
    """Evaluate two versions of a model on the config's test data.

    Args:
        full (PoseSession): In float32.
        low (PoseSession): In another precision.
        cfg (Config): The model's config.
        model (TopdownPoseEstimator): Maps keypoints back into the image.
        deployed (DeployModel): What was exported.

    Returns:
        tuple:
        - moved (MovedKeypoints): How many keypoints are elsewhere.
        - metrics (dict): Both versions' values of the config's metrics, and how far their scores
          can be trusted.
    """
    with silenced():
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
    moved = MovedKeypoints('the test data')

    def run_both() -> Iterator[tuple]:
        for batch in track(loader, 'evaluate'):
            crops = np.stack([image.numpy() for image in batch['inputs']])
            crops = np.ascontiguousarray(crops.transpose(0, 2, 3, 1))  # uint8, BGR, (B, h, w, 3)
            found = [predict_crops(session, deployed, crops) for session in (full, low)]
            moved.add(found[0][0], found[1][0])
            yield found, batch['data_samples']

    decoders = dict(
        full=lambda found: _instances(*found[0]), low=lambda found: _instances(*found[1])
    )
    people, predictions = predict(model, run_both(), decoders, loader.dataset.metainfo)
    scorer = Scorer(cfg.test_evaluator, people)
    metrics, others = (scorer(*predictions[name].load()).metrics for name in decoders)
    return moved, {name: (value, others[name]) for name, value in metrics.items()}


def _instances(keypoints: np.ndarray, scores: np.ndarray) -> List[InstanceData]:
    """Predictions (B, K, 2), (B, K) as MMPose has them."""
    return [
        InstanceData(keypoints=k[None], keypoint_scores=s[None]) for k, s in zip(keypoints, scores)
    ]
