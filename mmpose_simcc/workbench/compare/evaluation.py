# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Evaluates the decoders of a run on one forward pass, and writes what they reach."""

import json
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import torch
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS
from torch import Tensor, nn

from ...utils.console import silenced, track
from ...utils.files import save_arrays, whole_file
from ...utils.inference import build_model, load_weights, network_outputs, one_line, pose_head
from .. import scoring
from ..scoring import Scorer, predict
from .decoders import calibrated_on
from .errors import CompareError
from .runs import Run

RESULTS = 4  # raise when what the files of a row hold changes


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


def result_file(prefix: Path) -> Path:
    """Where :func:`evaluate` writes a decoder's metrics. It is written last: where it exists, the
    other files of its prefix are complete."""
    return Path(f'{prefix}.json')


def decode_by(head: nn.Module, decoder: dict) -> Callable[[Tuple[Tensor, ...]], List[InstanceData]]:
    """A function that decodes a head's outputs as the head does, but by another codec.

    Args:
        head (nn.Module): The head that predicts keypoints.
        decoder (dict): Config of the codec.
    """
    codec = KEYPOINT_CODECS.build(decoder)

    def decode(outputs: Tuple[Tensor, ...]) -> List[InstanceData]:
        head.decoder = codec
        # MMPose tells one tensor from several by their type
        return head.decode(outputs if len(outputs) > 1 else outputs[0])

    return decode


@torch.no_grad()
def evaluate(
    run: Run, checkpoint: str, decoders: Dict[str, dict], prefixes: Dict[str, Path]
) -> None:
    """Evaluate decoders on one forward pass over the test data.

    In a distributed run every process calls it: MMEngine's sampler gives each a share of the
    samples, the metrics collect the predictions of all, and the first process writes the files.

    Args:
        run (Run): The run.
        checkpoint (str): Its weights.
        decoders (dict): Codec configs by name.
        prefixes (dict): For each name, where its files go: ``PREFIX.json`` has the ``metrics``,
            the ``decoder``, the pictures that it was ``calibrated_on`` and the ``checkpoint``;
            ``PREFIX.npz`` has the arrays of :class:`~mmpose_simcc.workbench.scoring.Scores`; a
            COCO metric adds ``PREFIX.keypoints.json`` in COCO's format.

    Raises:
        CompareError: The checkpoint does not fit.
    """
    model = load_model(run, checkpoint)
    with silenced():
        loader = Runner.build_dataloader(run.cfg.test_dataloader, seed=0)
    people, predictions = predict(
        model,
        network_outputs(model, track(loader, f'evaluate {run.name}')),
        {name: decode_by(pose_head(model), decoder) for name, decoder in decoders.items()},
        loader.dataset.metainfo,
        next(iter(prefixes.values())).parent,
    )
    del model
    scorer = Scorer(run.cfg.test_evaluator, people, len(loader.dataset))
    for name, decoder in decoders.items():
        scores = scorer(*predictions[name].load(), prefixes[name])
        if scores is None:  # the first process has them
            continue
        save_arrays(f'{prefixes[name]}.npz', **scores.arrays)
        result = dict(
            metrics=scores.metrics,
            decoder=decoder,
            checkpoint=checkpoint,
            calibrated_on=calibrated_on(decoder),
        )
        with whole_file(result_file(prefixes[name])) as unfinished:
            unfinished.write_text(json.dumps(result, default=list))


def build_metrics(run: Run) -> List[BaseMetric]:
    """A run's metrics, for the keypoints of its test data.

    Raises:
        CompareError: They cannot be built, or belong to several data sets.
    """
    evaluator = run.cfg.test_evaluator
    if isinstance(evaluator, dict) and evaluator.get('type') == 'MultiDatasetEvaluator':
        raise CompareError(
            f'{run.name}: `test_evaluator` is a MultiDatasetEvaluator: compare on one data set '
            'at a time, with `test_evaluator` a metric or a list of metrics'
        )
    init_default_scope(run.cfg.get('default_scope', 'mmpose'))
    try:
        return scoring.build_metrics(evaluator, run.metainfo)
    except Exception as error:  # metrics are built by anybody's code
        raise CompareError(f'{run.name}: `test_evaluator`: {one_line(error)}') from error
