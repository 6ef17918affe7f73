# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What another precision costs: keypoints that move, and MMPose's metrics."""

from typing import Iterator, List

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


def _moved(precision: str, keypoints: np.ndarray, others: np.ndarray, where: str) -> str:
    """How many keypoints (N, K, 2), in input pixels, are elsewhere in the other precision."""
    distances = np.abs(keypoints - others).max(axis=-1)
    part = 100 * (distances > MOVED).mean()
    return (
        f'{precision}: {part:.2f}% of {distances.size} keypoints on {where} move by more than '
        f'{MOVED} px, at most by {distances.max():.2f} px'
    )


def compare_on_made_up(
    full: PoseSession, low: PoseSession, precision: str, deployed: DeployModel
) -> str:
    """How many keypoints two versions of a model find elsewhere on made-up pictures."""
    crops = made_up_crops(MADE_UP, full.input_size, seed=0)
    found = [predict_crops(session, deployed, crops)[0] for session in (full, low)]
    return _moved(precision, *found, 'made-up pictures')


def compare_on_test_data(
    full: PoseSession,
    low: PoseSession,
    precision: str,
    cfg: Config,
    model: TopdownPoseEstimator,
    deployed: DeployModel,
) -> List[str]:
    """Compare two versions of a model on the config's test data.

    Args:
        full (PoseSession): In float32.
        low (PoseSession): In another precision.
        precision (str): The other's name.
        cfg (Config): The model's config.
        model (TopdownPoseEstimator): Maps keypoints back into the image.
        deployed (DeployModel): What was exported.

    Returns:
        list[str]: How many keypoints are elsewhere, then both values of each of the config's
        metrics, and of how far scores can be trusted.
    """
    with silenced():
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
    found = []

    def run_both() -> Iterator[tuple]:
        for batch in track(loader, 'evaluate'):
            crops = np.stack([image.numpy() for image in batch['inputs']])
            crops = np.ascontiguousarray(crops.transpose(0, 2, 3, 1))  # uint8, BGR, (B, h, w, 3)
            pair = [predict_crops(session, deployed, crops) for session in (full, low)]
            found.append([keypoints for keypoints, _ in pair])
            yield pair, batch['data_samples']

    decoders = dict(full=lambda pair: _instances(*pair[0]), low=lambda pair: _instances(*pair[1]))
    people, predictions = predict(model, run_both(), decoders, loader.dataset.metainfo)
    scorer = Scorer(cfg.test_evaluator, people)
    metrics, others = (scorer(*predictions[name].load()).metrics for name in decoders)
    keypoints = (np.concatenate(batches) for batches in zip(*found))
    return [_moved(precision, *keypoints, 'the test data')] + [
        f'{name}: fp32 {value:.4f}, {precision} {others[name]:.4f}, '
        f'change {others[name] - value:+.4f}'
        for name, value in metrics.items()
    ]


def _instances(keypoints: np.ndarray, scores: np.ndarray) -> List[InstanceData]:
    """Predictions (B, K, 2), (B, K) as MMPose has them."""
    return [
        InstanceData(keypoints=k[None], keypoint_scores=s[None]) for k, s in zip(keypoints, scores)
    ]
