# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""SimCC, DARK, DAEC and TokenPose for MMPose.

Importing this package registers its codecs, heads, backbones and losses into
MMPose's registries.
"""
from . import compat

compat.apply()  # before anything imports mmpose

from .codecs import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec  # noqa: E402
from .models import SimCCClassifierHead, SimCCKLLoss  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    'DAECCodec', 'DARKCodec', 'HeatmapCodec', 'SimCCClassifierHead',
    'SimCCCodec', 'SimCCKLLoss', '__version__'
]
