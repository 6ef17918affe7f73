# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Runs exported models with onnxruntime, numpy and OpenCV alone.

Nothing here imports torch, MMPose or the rest of this project, so that
``pip install "./mmpose_simcc/deploy/client[cpu,opencv]"`` installs it alone, as
``mmpose_simcc_client``.
"""

__version__ = '0.1.0'  # as in mmpose_simcc/version.py

from .detector import DetectorInput, PersonDetector
from .draw import draw_skeleton
from .errors import ClientError
from .pose import RTMLIB_MEAN, RTMLIB_STD, PoseSession
from .run import infer
from .smooth import OneEuroFilter, Smoother

__all__ = [
    'RTMLIB_MEAN',
    'RTMLIB_STD',
    'ClientError',
    'DetectorInput',
    'OneEuroFilter',
    'PersonDetector',
    'PoseSession',
    'Smoother',
    'draw_skeleton',
    'infer',
]
