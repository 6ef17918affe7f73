# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Toy data: drawn people with exact annotations in COCO's format."""

from .coco import make_toy_coco
from .scene import draw_scene

__all__ = ['draw_scene', 'make_toy_coco']
