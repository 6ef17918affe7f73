# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Files of weights: reading, writing, and trying them on a config."""

import io
import os
from typing import Dict, List, Union

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS
from torch import Tensor

from ..utils.files import whole_file
from ..version import __version__
from .model import OfficialModel, check_match, is_weights, shapes_of


def load_weights(path: Union[str, os.PathLike]) -> Dict[str, Tensor]:
    """Read published weights, alone or as ``state_dict`` of a checkpoint.

    Nothing but tensors and plain containers is unpickled.

    Args:
        path (str): The file.

    Returns:
        dict[str, Tensor]: The weights.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged or holds something else.
    """
    with open(path, 'rb') as file:
        try:
            content = torch.load(file, map_location='cpu', weights_only=True)
        # a damaged file can raise almost anything
        except Exception as error:
            raise ValueError(
                f'{path} is damaged, or holds more than weights and plain '
                f'values: {type(error).__name__}'
            ) from None
    if isinstance(content, dict):
        content = content.get('state_dict', content)
    if not is_weights(content):
        raise ValueError(f'{path} holds no state_dict')
    return content


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
    """
    meta = dict(
        mmpose_simcc_version=__version__,
        converted_from=official.name,
        model=official.model,
        data_preprocessor=official.data_preprocessor,
        notes=official.notes,
    )
    content = io.BytesIO()  # torch hides why it cannot write to a file
    torch.save(dict(meta=meta, state_dict=state_dict), content)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content.getvalue())


def check_config(
    config: Union[str, os.PathLike], state_dict: Dict[str, Tensor], official: OfficialModel
) -> List[str]:
    """Load converted weights into the model of a config, strictly.

    Args:
        config (str): Config file.
        state_dict (dict[str, Tensor]): Converted weights.
        official (OfficialModel): The model they were converted from.

    Returns:
        list[str]: In which settings the config feeds other images than the
        published training did, and what changes that.

    Raises:
        ValueError: The weights do not fit the config's model.
    """
    cfg = Config.fromfile(config)
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    model = MODELS.build(cfg.model)
    check_match(
        f'{official.name} does not fit {config}', shapes_of(model.state_dict()), state_dict, {}
    )
    model.load_state_dict(state_dict)
    configured = cfg.model.get('data_preprocessor') or {}
    return [
        f'{name} is {configured.get(name)!r}, the published training had '
        f'{value!r}: --cfg-options model.data_preprocessor.{name}={value}'
        for name, value in official.data_preprocessor.items()
        if name != 'type' and configured.get(name) != value
    ]
