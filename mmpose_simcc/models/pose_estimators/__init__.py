# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .calibrated import CalibratedPoseEstimator
from .exact_flip import ExactFlipPoseEstimator

__all__ = ['CalibratedPoseEstimator', 'ExactFlipPoseEstimator']
