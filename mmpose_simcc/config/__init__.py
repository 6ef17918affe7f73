# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Configs of top-down models: one call changes the representation, one checks what belongs
together."""

from .checks import check_calibration, check_config
from .frames import check_frames
from .recipe import use_published_recipe
from .representation import set_representation

__all__ = [
    'check_calibration',
    'check_config',
    'check_frames',
    'set_representation',
    'use_published_recipe',
]
