# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""SimCC, DARK, DAEC and TokenPose for MMPose.

Importing this package registers its codecs, models, losses and hook into
MMPose's registries.
"""

from .utils import environment

environment.check()  # before anything fails in less telling words

from .utils import compat  # noqa: E402

compat.apply()  # before anything imports mmpose

from .codecs import (  # noqa: E402
    DAECCodec,
    DARKCodec,
    HeatmapCodec,
    SimCCCodec,
)
from .engine import ConfigCheckHook, EpochSeedHook  # noqa: E402
from .models import (  # noqa: E402
    CalibratedPoseEstimator,
    ExactFlipPoseEstimator,
    Heatmap1DHead,
    SimCCClassifierHead,
    SimCCKLLoss,
    TokenHeatmapHead,
    TokenPose,
)
from .version import __version__  # noqa: E402

__all__ = [
    'ConfigCheckHook',
    'DAECCodec',
    'DARKCodec',
    'EpochSeedHook',
    'CalibratedPoseEstimator',
    'ExactFlipPoseEstimator',
    'Heatmap1DHead',
    'HeatmapCodec',
    'SimCCClassifierHead',
    'SimCCCodec',
    'SimCCKLLoss',
    'TokenHeatmapHead',
    'TokenPose',
    '__version__',
]
