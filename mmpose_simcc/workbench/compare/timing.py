# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times networks and decoders side by side."""

import json
import platform
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
from mmengine.device import get_device
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS
from mmpose.structures import PoseDataSample
from mmpose.utils.tensor_utils import to_numpy
from torch import Tensor

from ...utils.files import whole_file
from ...utils.inference import build_model, model_input_size, pose_head, recorded_outputs
from ...utils.processes import locked
from ..identity import digest, network_identity, versions
from ..timing import time_in_turns
from .launch import Launcher, call
from .runs import Run

ROUNDS = 30
MAX_SECONDS = 60.0


@torch.inference_mode()
def time_runs(runs: List[Run], decoders: List[Dict[str, dict]], path: Path) -> None:
    """Time the forward pass and every decoder, one image at a time.

    Args:
        runs (list[Run]): The runs; weights do not matter. Those with the
            same network share its time.
        decoders (list[dict]): For each run, codec configs by name.
        path (Path): Gets for each run, as JSON, the medians in seconds of the forward pass
            (backbone, neck, head), as ``forward``, and of decoding, by the decoder's name.
    """
    device = get_device()
    functions, outputs = {}, {}
    networks = [network_identity(run.cfg) for run in runs]
    for number, (run, network) in enumerate(zip(runs, networks)):
        if network not in functions:
            model = build_model(run.cfg).to(device)
            width, height = model_input_size(model)
            image = torch.randn(1, 3, height, width, device=device)
            functions[network] = partial(model, image, None)
            outputs[network] = decoder_inputs(model, image)
        for name, decoder in decoders[number].items():
            codec = KEYPOINT_CODECS.build(decoder)
            functions[number, name] = partial(_decode, codec, outputs[network])
    seconds = time_in_turns(functions, ROUNDS, max_seconds=MAX_SECONDS)
    medians = {key: float(np.median(times)) for key, times in seconds.items()}
    of_runs = [
        dict(forward=medians[network], **{name: medians[number, name] for name in decoders[number]})
        for number, network in enumerate(networks)
    ]
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(of_runs))


def read_times(
    runs: Sequence[Run], decoders: List[Dict[str, dict]], work_dir: Path, launcher: Launcher
) -> List[Dict[str, float]]:
    """What :func:`time_runs` measures, of all runs in one session, so that the times compare. If
    the same was measured before on this machine, the times of then.

    Args:
        runs (list[Run]): The runs.
        decoders (list[dict]): For each run, codec configs by name.
        work_dir (Path): The comparison's folder.
        launcher (Launcher): With Slurm's, a process that it starts measures.
    """
    session = digest(
        [
            [network_identity(run.cfg) for run in runs],
            decoders,
            versions(*(run.cfg.to_dict()['model'] for run in runs)),
            get_device(),
            platform.node(),
            torch.get_num_threads(),
        ]
    )
    path = work_dir / 'results' / f'times-{session}.json'
    if not path.is_file():
        # Slurm runs networks on other machines than this one
        alone = replace(launcher, processes=1) if launcher.name == 'slurm' else Launcher()
        with locked(work_dir / 'locks' / f'{session}.lock', 'time all models'):
            if not path.is_file():  # not by another process meanwhile
                folder = work_dir / 'calls' / path.stem
                call(time_runs, ([*runs], decoders, path), 'time side by side', folder, alone)
    return json.loads(path.read_text())


def decoder_inputs(model: TopdownPoseEstimator, image: Tensor) -> Tuple[Tensor, ...]:
    """What the head decodes of an image, which not in all heads is what its ``forward`` gives."""
    head = pose_head(model)
    with recorded_outputs(head) as outputs:
        head.predict(model.extract_feat(image), [PoseDataSample()], test_cfg={})
    return outputs[0]


def _decode(codec: BaseKeypointCodec, outputs: Tuple[Tensor, ...]) -> None:
    """As a head calls a codec."""
    if codec.support_batch_decoding:
        codec.batch_decode(*outputs)
    elif len(outputs) > 1:
        codec.decode(*to_numpy(outputs, unzip=True)[0])
    else:
        codec.decode(to_numpy(outputs[0])[0])
