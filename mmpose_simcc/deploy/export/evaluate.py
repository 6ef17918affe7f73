# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Evaluates exported models by MMPose's metrics."""

from typing import Dict

import numpy as np
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmpose.models import TopdownPoseEstimator
from rich.progress import track

from ...utils.console import quiet
from ..client import PoseSession


def evaluate_sessions(
    sessions: Dict[str, PoseSession], cfg: Config, model: TopdownPoseEstimator
) -> Dict[str, Dict[str, float]]:
    """Evaluate exported versions of a model on the config's test data.

    Args:
        sessions (dict): The versions by name.
        cfg (Config): The model's config.
        model (TopdownPoseEstimator): Maps keypoints back into the image.

    Returns:
        dict: For each version, the values of the config's metrics.
    """
    with quiet():
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
        evaluators = {}
        for name in sessions:
            evaluators[name] = Evaluator(cfg.test_evaluator)
            evaluators[name].dataset_meta = loader.dataset.metainfo
    for batch in track(loader, 'evaluate'):
        crops = np.stack([image.numpy() for image in batch['inputs']])
        crops = np.ascontiguousarray(crops.transpose(0, 2, 3, 1))
        for name, session in sessions.items():
            predictions = [
                InstanceData(keypoints=k[None], keypoint_scores=s[None])
                for k, s in zip(*session.predict_crops(crops))
            ]
            samples = model.add_pred_to_datasample(predictions, None, batch['data_samples'])
            evaluators[name].process(samples, batch)
    with quiet():
        return {
            name: evaluator.evaluate(len(loader.dataset)) for name, evaluator in evaluators.items()
        }
