# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .tokenpose import TokenPose

__all__ = ['TokenPose']
