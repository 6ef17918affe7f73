# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Published weights to MMPose checkpoints."""

from .checkpoint import check_model, load_weights, save_checkpoint, save_weights
from .efficientnet import convert_efficientnet_lite0, is_efficientnet_lite0
from .model import OfficialModel
from .official import SOURCES, convert_official, identify

__all__ = [
    'SOURCES',
    'OfficialModel',
    'check_model',
    'convert_efficientnet_lite0',
    'convert_official',
    'identify',
    'is_efficientnet_lite0',
    'load_weights',
    'save_checkpoint',
    'save_weights',
]
