# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decodes one forward pass by many codecs and evaluates each."""
import contextlib
import io
import logging
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader, Runner
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS
from rich.progress import track

from ..analysis import build_model
from .errors import LabError
from .runs import Run


def load_weights(model: TopdownPoseEstimator, checkpoint: str,
                 name: str) -> None:
    """Load a checkpoint that must fit the model entry for entry.

    Args:
        model (TopdownPoseEstimator): The model.
        checkpoint (str): Path of the checkpoint.
        name (str): What to call the model in errors.

    Raises:
        LabError: It cannot be read or is that of another model; the message
            names the first entry that differs.
    """
    try:
        loaded = CheckpointLoader.load_checkpoint(
            str(checkpoint), map_location='cpu', logger='silent')
    except Exception as error:  # unpickling raises nearly anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LabError(
            f'checkpoint {checkpoint} cannot be read: {reason}') from error
    state = loaded.get('state_dict', loaded) if isinstance(loaded,
                                                           dict) else {}
    state = {key.removeprefix('module.'): v for key, v in state.items()}
    own = model.state_dict()
    for key in [*own, *state]:
        if key not in state:
            problem = f'has no `{key}`'
        elif key not in own:
            problem = f'has `{key}`, which the model has not'
        elif own[key].shape != state[key].shape:
            problem = (f'has `{key}` of shape {tuple(state[key].shape)}, the '
                       f'model {tuple(own[key].shape)}')
        else:
            continue
        raise LabError(f'checkpoint {checkpoint} is of another model than '
                       f'{name}: it {problem}')
    model.load_state_dict(state)


class OutputRecorder:
    """Keeps what a head hands to ``decode``: the network outputs after
    everything that the head does to them, the flip test included.

    Args:
        head (nn.Module): Head of a top-down model.
    """

    def __init__(self, head: torch.nn.Module) -> None:
        self.head = head
        self.outputs = None

    def __enter__(self) -> 'OutputRecorder':
        decode = self.head.decode

        def record(outputs):
            self.outputs = outputs
            return decode(outputs)

        self.head.decode = record  # hides the class's method
        return self

    def __exit__(self, *exc_info) -> None:
        del self.head.decode


@contextlib.contextmanager
def quiet():
    """Silence what metrics print and log for every decoder."""
    level = MMLogger.get_current_instance().level
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        MMLogger.get_current_instance().setLevel(level)


@torch.no_grad()
def evaluate(
    run: Run,
    checkpoint: str,
    decoders: Dict[str, dict],
    prefixes: Dict[str, Path],
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
            set; a COCO metric adds ``PREFIX.keypoints.json`` in COCO's
            format.

    Returns:
        dict: For each name, the values of the config's metrics.

    Raises:
        LabError: The checkpoint does not fit, or the head does not decode
            by its ``decode``.
    """
    cfg = run.cfg
    model = build_model(cfg)
    load_weights(model, checkpoint, run.name)
    model.to(get_device())
    head = model.head
    codecs = {
        name: KEYPOINT_CODECS.build(decoder)
        for name, decoder in decoders.items()
    }
    with quiet():
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
        evaluators = {
            name: _build_evaluator(cfg, prefixes[name],
                                   loader.dataset.metainfo)
            for name in codecs
        }
    predictions = {name: [] for name in codecs}

    for batch in track(loader, f'evaluate {run.name}'):
        data = model.data_preprocessor(batch, False)
        with OutputRecorder(head) as recorder:
            samples = model.predict(data['inputs'], data['data_samples'])
        if recorder.outputs is None:
            raise LabError(f'{run.name}: {type(head).__name__} does not '
                           'decode by its method `decode`')
        for name, codec in codecs.items():
            head.decoder = codec
            samples = model.add_pred_to_datasample(
                head.decode(recorder.outputs), None, data['data_samples'])
            evaluators[name].process(samples, batch)
            predictions[name] += [_prediction(sample) for sample in samples]

    metrics = {}
    for name, evaluator in evaluators.items():
        _save_predictions(prefixes[name], predictions.pop(name))
        with quiet():
            metrics[name] = {
                key: float(value)
                for key, value in evaluator.evaluate(
                    len(loader.dataset)).items()
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
    return (sample.id, sample.img_id, instances.keypoints[0],
            instances.keypoint_scores[0])


def _save_predictions(prefix: Path, predictions: List[tuple]) -> None:
    ids, img_ids, keypoints, scores = zip(*predictions)
    np.savez(
        f'{prefix}.npz',
        ids=np.array(ids),
        img_ids=np.array(img_ids),
        keypoints=np.array(keypoints, np.float32),
        scores=np.array(scores, np.float32))
