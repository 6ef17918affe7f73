# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .target_data_preprocessor import TargetDataPreprocessor

__all__ = ['TargetDataPreprocessor']
