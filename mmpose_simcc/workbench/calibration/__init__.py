# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds how a trained model's outputs are decoded best, and what its scores are worth."""

from .calibrate import Calibrated, calibrate, tune
from .ladder import LADDER, climb
from .report import coverage_table, step_table, summary, tables
from .samples import Decoding, Samples

__all__ = [
    'LADDER',
    'Calibrated',
    'Decoding',
    'Samples',
    'calibrate',
    'climb',
    'coverage_table',
    'step_table',
    'summary',
    'tables',
    'tune',
]
