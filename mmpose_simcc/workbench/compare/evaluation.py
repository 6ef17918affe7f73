# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decodes one forward pass by many codecs and evaluates each."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmpose.evaluation.metrics import MpiiPCKAccuracy, PCKAccuracy
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS

from ...utils.console import quiet, track
from ...utils.files import save_arrays
from ...utils.inference import build_model, load_weights, network_outputs
from .errors import CompareError
from .runs import Run


def load_model(run: Run, checkpoint: str) -> TopdownPoseEstimator:
    """Build a run's model with the weights of a checkpoint.

    Raises:
        CompareError: The checkpoint cannot be read or is of another model.
    """
    model = build_model(run.cfg)
    try:
        load_weights(model, checkpoint)
    except ValueError as error:
        raise CompareError(f'{run.name}: {error}') from error
    return model.to(get_device())


@torch.no_grad()
def evaluate(
    run: Run, checkpoint: str, decoders: Dict[str, dict], prefixes: Dict[str, Path]
) -> Dict[str, Dict[str, float]]:
    """Evaluate decoders on one forward pass over the test data.

    Memory stays flat: every batch of network outputs is decoded by all and
    dropped.

    Args:
        run (Run): The run.
        checkpoint (str): Its weights.
        decoders (dict): Codec configs by name.
        prefixes (dict): For each name, where its predictions go:
            ``PREFIX.npz`` has ``ids``, ``img_ids`` (N,), ``keypoints`` (N, K,
            2) in image pixels and ``scores`` (N, K) in the order of the data
            set, and with a PCK metric ``distances`` (N, K), normalised; a
            COCO metric adds ``PREFIX.keypoints.json`` in COCO's format.

    Returns:
        dict: For each name, the values of the config's metrics.

    Raises:
        CompareError: The checkpoint does not fit.
    """
    cfg = run.cfg
    model = load_model(run, checkpoint)
    head = model.head
    codecs = {name: KEYPOINT_CODECS.build(decoder) for name, decoder in decoders.items()}
    with quiet():
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
        evaluators = {
            name: _build_evaluator(cfg, prefixes[name], loader.dataset.metainfo) for name in codecs
        }
    predictions = {name: [] for name in codecs}

    batches = track(loader, f'evaluate {run.name}')
    for outputs, samples in network_outputs(model, batches):
        for name, codec in codecs.items():
            head.decoder = codec
            # MMPose tells one tensor from several by their type
            decoded = head.decode(outputs if len(outputs) > 1 else outputs[0])
            model.add_pred_to_datasample(decoded, None, samples)
            evaluators[name].process(samples)
            predictions[name] += [_prediction(sample) for sample in samples]

    metrics = {}
    for name, evaluator in evaluators.items():
        _save_predictions(prefixes[name], predictions.pop(name), _pck_distances(evaluator))
        with quiet():
            metrics[name] = {
                key: float(value) for key, value in evaluator.evaluate(len(loader.dataset)).items()
            }
    return metrics


def _build_evaluator(cfg: Config, prefix: Path, metainfo: dict) -> Evaluator:
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = metainfo
    for metric in evaluator.metrics:
        if hasattr(metric, 'outfile_prefix'):
            metric.outfile_prefix = str(prefix)
    return evaluator


def _prediction(sample) -> Tuple[Any, Any, np.ndarray, np.ndarray]:
    instances = sample.pred_instances
    return (sample.id, sample.img_id, instances.keypoints[0], instances.keypoint_scores[0])


def _pck_distances(evaluator: Evaluator) -> Dict[str, np.ndarray]:
    """What a PCK metric compares with its threshold: ``distances`` (N, K),
    NaN where a keypoint is not labelled."""
    for metric in evaluator.metrics:
        # not JHMDB's, which has two sizes
        if type(metric) in (PCKAccuracy, MpiiPCKAccuracy):
            size = f'{metric.norm_item[0]}_size'
            # MPII counts pixels from 1
            first = isinstance(metric, MpiiPCKAccuracy)
            distances = [
                np.where(
                    sample['mask'][0],
                    np.linalg.norm(
                        (sample['pred_coords'][0] + first - sample['gt_coords'][0]) / sample[size],
                        axis=-1,
                    ),
                    np.nan,
                )
                for sample in metric.results
            ]
            return dict(distances=np.array(distances, np.float32))
    return {}


def _save_predictions(
    prefix: Path, predictions: List[tuple], distances: Dict[str, np.ndarray]
) -> None:
    ids, img_ids, keypoints, scores = zip(*predictions)
    save_arrays(
        f'{prefix}.npz',
        ids=np.array(ids),
        img_ids=np.array(img_ids),
        keypoints=np.array(keypoints, np.float32),
        scores=np.array(scores, np.float32),
        **distances,
    )
