# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Learns the error-compensation factor of DAEC from data."""

from .calibrate import Calibration, Choice, Curve, calibrate
from .report import plot_calibration, print_report

__all__ = ['Calibration', 'Choice', 'Curve', 'calibrate', 'plot_calibration', 'print_report']
