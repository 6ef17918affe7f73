# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Published weights to MMPose checkpoints."""

from .checkpoint import check_config, load_weights, save_checkpoint
from .model import OfficialModel
from .official import convert_official, identify

__all__ = [
    'OfficialModel',
    'check_config',
    'convert_official',
    'identify',
    'load_weights',
    'save_checkpoint',
]
