# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .simcc_classifier_head import SimCCClassifierHead

__all__ = ['SimCCClassifierHead']
