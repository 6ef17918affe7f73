# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Files of weights: reading, writing, and loading them into the model of a config."""

import io
import os
from typing import Dict, List, Union

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS
from torch import Tensor

from ..utils.compat import load_checkpoint, why_refused
from ..utils.configs import check_published_frame
from ..utils.files import whole_file
from ..version import __version__
from .model import OfficialModel, check_match, is_weights, shapes_of

# Names under which common training code saves weights, the most usual first
WEIGHTS_OF_CHECKPOINTS = ('state_dict', 'model_state_dict', 'model', 'net')


def load_weights(path: Union[str, os.PathLike]) -> Dict[str, Tensor]:
    """Read published weights, alone or inside a checkpoint.

    Nothing but tensors, plain values and the types of MMEngine's checkpoints
    is unpickled.

    Args:
        path (str): The file. Of a checkpoint its ``state_dict``,
            ``model_state_dict``, ``model`` or ``net`` is read.

    Returns:
        dict[str, Tensor]: The weights.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, holds something else, or holds weights
            only under other names.
    """
    with open(path, 'rb'):  # raises where the file cannot be read, whatever its content
        pass
    try:
        content = load_checkpoint(str(path))
    except Exception as error:  # a damaged file can raise almost anything
        raise ValueError(
            f'{path} is damaged, or holds more than weights and plain values: {why_refused(error)}'
        ) from error
    if is_weights(content):
        return content
    inside = {}
    if isinstance(content, dict):
        inside = {name: value for name, value in content.items() if is_weights(value)}
    for name in WEIGHTS_OF_CHECKPOINTS:
        if name in inside:
            return inside[name]
    if inside:
        raise ValueError(
            f'{path} holds weights as {sorted(map(str, inside))}, which may be averages or parts '
            'of a model: save the ones that you want alone'
        )
    raise ValueError(f'{path} holds no state_dict')


def save_checkpoint(
    path: Union[str, os.PathLike], state_dict: Dict[str, Tensor], official: OfficialModel
) -> None:
    """Write an MMPose checkpoint that says in ``meta`` what it is.

    Args:
        path (str): The file.
        state_dict (dict[str, Tensor]): Converted weights.
        official (OfficialModel): The model they were converted from.

    Raises:
        OSError: The file cannot be written.
        ValueError: It is not known how the published code cuts pictures out.
    """
    if official.use_udp is None:
        raise ValueError(
            f'`source` must be given: weights of {official.name} are published by several '
            "repositories, and DARK's and TokenPose's cut pictures out otherwise than "
            "SimpleBaseline's, HRNet's and SimCC's"
        )
    meta = dict(
        converted_from=official.name,
        use_udp=official.use_udp,
        model=official.model,
        data_preprocessor=official.data_preprocessor,
        notes=official.notes,
    )
    save_weights(path, state_dict, meta)


def save_weights(path: Union[str, os.PathLike], state_dict: Dict[str, Tensor], meta: dict) -> None:
    """Write a checkpoint with ``meta``, which describes it.

    Raises:
        OSError: The file cannot be written.
    """
    meta = dict(mmpose_simcc_version=__version__, **meta)
    content = io.BytesIO()  # torch.save does not say why it cannot write to a file
    torch.save(dict(meta=meta, state_dict=state_dict), content)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content.getvalue())


def check_model(
    config: Union[str, os.PathLike], state_dict: Dict[str, Tensor], official: OfficialModel
) -> List[str]:
    """Load converted weights into the model of a config, strictly.

    Args:
        config (str): Config file.
        state_dict (dict[str, Tensor]): Converted weights.
        official (OfficialModel): The model they were converted from.

    Returns:
        list[str]: Settings by which the config feeds other images than the
        published training did, and the options that change them.

    Raises:
        ValueError: The weights do not fit the config's model, or the config
            cuts pictures out in another way than the published code.
    """
    cfg = Config.fromfile(config)
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    model = MODELS.build(cfg.model)
    check_match(
        f'{official.name} does not fit {config}', shapes_of(model.state_dict()), state_dict, {}
    )
    model.load_state_dict(state_dict)
    try:
        check_published_frame(cfg, dict(converted_from=official.name, use_udp=official.use_udp))
    except ValueError as error:
        raise ValueError(f'{config}: {error}') from error
    configured = cfg.model.get('data_preprocessor') or {}
    return [
        f'{name} is {configured.get(name)!r}, the published training had '
        f'{value!r}: --cfg-options model.data_preprocessor.{name}={value}'
        for name, value in official.data_preprocessor.items()
        if name != 'type' and configured.get(name) != value
    ]
