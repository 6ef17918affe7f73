# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What people measure models with: comparisons, calibration, sizes and costs,
and drawn data."""

from ..utils.environment import check_workbench

check_workbench()
