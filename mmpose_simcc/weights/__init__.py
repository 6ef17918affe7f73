# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Published weights to MMPose checkpoints."""

from .checkpoint import check_model, load_weights, save_checkpoint
from .model import OfficialModel
from .official import SOURCES, convert_official, identify

__all__ = [
    'SOURCES',
    'OfficialModel',
    'check_model',
    'convert_official',
    'identify',
    'load_weights',
    'save_checkpoint',
]
