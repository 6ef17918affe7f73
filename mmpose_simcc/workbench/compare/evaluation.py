# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Evaluates the decoders of a run on one forward pass, and writes what they reach."""

import json
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import torch
from mmengine.device import get_device
from mmengine.structures import InstanceData
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS
from torch import Tensor, nn

from ...utils.console import track
from ...utils.files import save_arrays, whole_file
from ...utils.inference import build_model, load_weights, network_outputs, pose_head
from ..scoring import Scorer, predict
from .data import load_test_data
from .decoders import calibrated_on
from .errors import CompareError
from .rows import Training
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


def is_evaluated(prefix: Path) -> bool:
    """Whether :func:`evaluate` has written all files of a decoder."""
    return Path(f'{prefix}.json').is_file()  # written last


def read_training(prefix: Path) -> Training:
    """What :func:`evaluate` has found with a decoder."""
    found = json.loads(Path(f'{prefix}.json').read_text(encoding='utf-8'))
    return Training(found['checkpoint'], str(prefix), found['metrics'], found['calibrated_on'])


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
    loader = load_test_data(run.cfg)
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
        with whole_file(f'{prefixes[name]}.json') as unfinished:
            unfinished.write_text(json.dumps(result, default=list))
