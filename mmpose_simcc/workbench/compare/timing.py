# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times networks and decoders side by side."""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import torch
from mmengine.device import get_device
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS
from mmpose.structures import PoseDataSample
from mmpose.utils.tensor_utils import to_numpy
from torch import Tensor

from ...utils.console import track
from ...utils.files import whole_file
from ...utils.inference import build_model, model_input_size, pose_head, recorded_outputs
from ..identity import network_identity
from .runs import Run

WARM_UP = 3  # rounds that are not counted
ROUNDS = 30
MAX_SECONDS = 60.0


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def time_runs(runs: List[Run], decoders: List[Dict[str, dict]]) -> List[Dict[str, float]]:
    """Time the forward pass and every decoder, one image at a time.

    In every round each network and each decoder runs once, so that whatever
    else the machine does meets all of them alike.

    Args:
        runs (list[Run]): The runs; weights do not matter. Those with the
            same network share its time.
        decoders (list[dict]): For each run, codec configs by name.

    Returns:
        list[dict]: For each run, the medians in seconds of the forward pass
        (backbone, neck, head), as ``forward``, and of decoding, by the
        decoder's name.
    """
    device = get_device()
    networks, outputs, images = {}, {}, {}
    users = [network_identity(run.cfg) for run in runs]
    for run, user in zip(runs, users):
        if user not in networks:
            networks[user] = build_model(run.cfg).to(device)
            width, height = model_input_size(networks[user])
            images[user] = torch.randn(1, 3, height, width, device=device)
            outputs[user] = decoder_inputs(networks[user], images[user])
    codecs = [
        {name: KEYPOINT_CODECS.build(decoder) for name, decoder in of_run.items()}
        for of_run in decoders
    ]

    times = defaultdict(list)
    start = _now()
    for index in track(range(WARM_UP + ROUNDS), 'time side by side'):
        if index > 2 * WARM_UP and _now() - start > MAX_SECONDS:
            break
        if index == WARM_UP:
            times.clear()
        for user, network in networks.items():
            before = _now()
            network(images[user], None)
            times[user].append(_now() - before)
        for number, (user, of_run) in enumerate(zip(users, codecs)):
            for name, codec in of_run.items():
                _decode(codec, outputs[user])  # fills the caches
                before = _now()
                _decode(codec, outputs[user])
                times[number, name].append(_now() - before)
    medians = {key: float(np.median(values)) for key, values in times.items()}
    return [
        dict(forward=medians[user], **{name: medians[number, name] for name in of_run})
        for number, (user, of_run) in enumerate(zip(users, codecs))
    ]


def save_times(runs: List[Run], decoders: List[Dict[str, dict]], path: Path) -> None:
    """Write what :func:`time_runs` measures as JSON."""
    times = time_runs(runs, decoders)
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(times))


def decoder_inputs(model: TopdownPoseEstimator, image: Tensor) -> Tuple[Tensor, ...]:
    """What the head decodes of an image: not in all heads what the network
    gives."""
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
