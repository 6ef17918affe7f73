# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds how a trained model's outputs are decoded best, and what its scores are worth."""

from .calibrate import Calibrated, calibrate
from .ladder import LADDER, Decoding, Samples, climb
from .report import summary, tables

__all__ = ['LADDER', 'Calibrated', 'Decoding', 'Samples', 'calibrate', 'climb', 'summary', 'tables']
