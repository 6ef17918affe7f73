# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Runs exported models with onnxruntime, numpy and OpenCV alone.

Nothing here imports torch, MMPose or the rest of this project, so that
``pip install ./mmpose_simcc/deploy/client`` installs it alone, as
``mmpose_simcc_client``.
"""

from .detector import PersonDetector
from .draw import draw_skeleton
from .errors import ClientError
from .pose import RTMLIB_MEAN, RTMLIB_STD, PoseSession
from .run import infer

__all__ = [
    'RTMLIB_MEAN',
    'RTMLIB_STD',
    'ClientError',
    'PersonDetector',
    'PoseSession',
    'draw_skeleton',
    'infer',
]
