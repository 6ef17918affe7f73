# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Evaluates the decoders of a run on one forward pass, and writes what they reach."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.device import get_device
from mmengine.structures import InstanceData
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS
from torch import Tensor, nn

from ...utils.console import track
from ...utils.files import save_arrays, whole_file
from ...utils.inference import build_model, load_weights, network_outputs, pose_head
from ..scoring import Scorer, Scores, predict
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


@dataclass
class ForwardPass:
    """One pass over the test data with the weights of one training, or of a checkpoint. It serves
    all decoders.

    Attributes:
        run (Run): The model.
        training (str, optional): Identity of the training; None for a checkpoint.
        identity (str): Identity of the forward pass.
        decoders (dict): Codec configs by name.
        prefixes (dict): For each decoder, where its files go: ``PREFIX.json`` has the
            ``metrics``, the ``decoder``, the pictures that it was ``calibrated_on`` and the
            ``checkpoint``; ``PREFIX.npz`` has the arrays of
            :class:`~mmpose_simcc.workbench.scoring.Scores`; a COCO metric adds
            ``PREFIX.keypoints.json`` in COCO's format.
    """

    run: Run
    training: Optional[str]
    identity: str
    decoders: Dict[str, dict]
    prefixes: Dict[str, Path]

    @property
    def missing(self) -> Dict[str, dict]:
        """The decoders without a result."""
        return {
            name: codec
            for name, codec in self.decoders.items()
            if not self._result_file(name).is_file()
        }

    def _result_file(self, decoder: str) -> Path:
        """Written last: where it is, the other files of its prefix are complete."""
        return Path(f'{self.prefixes[decoder]}.json')

    def write(self, decoder: str, scores: Scores, checkpoint: str) -> None:
        """Write what a decoder reaches."""
        save_arrays(f'{self.prefixes[decoder]}.npz', **scores.arrays)
        result = dict(
            metrics=scores.metrics,
            decoder=self.decoders[decoder],
            checkpoint=checkpoint,
            calibrated_on=calibrated_on(self.decoders[decoder]),
        )
        with whole_file(self._result_file(decoder)) as unfinished:
            unfinished.write_text(json.dumps(result, default=list), encoding='utf-8')

    def read(self, decoder: str) -> Training:
        """What a decoder has reached."""
        found = json.loads(self._result_file(decoder).read_text(encoding='utf-8'))
        predictions = str(self.prefixes[decoder])
        return Training(found['checkpoint'], predictions, found['metrics'], found['calibrated_on'])


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
def evaluate(forward_pass: ForwardPass, decoders: Sequence[str], checkpoint: str) -> None:
    """Evaluate decoders on one forward pass over the test data.

    In a distributed run every process calls it: MMEngine's sampler gives each a share of the
    samples, the metrics collect the predictions of all, and the first process writes the files.

    Args:
        forward_pass (ForwardPass): The forward pass.
        decoders (list[str]): Those of its decoders that have no result.
        checkpoint (str): The weights.

    Raises:
        CompareError: The checkpoint does not fit.
    """
    run = forward_pass.run
    model = load_model(run, checkpoint)
    loader = load_test_data(run.cfg)
    people, predictions = predict(
        model,
        network_outputs(model, track(loader, f'evaluate {run.name}')),
        {name: decode_by(pose_head(model), forward_pass.decoders[name]) for name in decoders},
        loader.dataset.metainfo,
        forward_pass.prefixes[decoders[0]].parent,
    )
    del model
    scorer = Scorer(run.cfg.test_evaluator, people, len(loader.dataset))
    for name in decoders:
        scores = scorer(*predictions[name].load(), forward_pass.prefixes[name])
        if scores is not None:  # in the first process
            forward_pass.write(name, scores, checkpoint)
