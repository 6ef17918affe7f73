# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds how the outputs of a trained model are decoded best, and what its scores are worth."""

from .calibrate import Calibrated, calibrate, tune
from .report import coverage_table, step_table, summary, tables

__all__ = ['Calibrated', 'calibrate', 'coverage_table', 'step_table', 'summary', 'tables', 'tune']
