# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""SimCC, DARK and DAEC for MMPose."""
from . import compat
from .version import __version__

compat.apply()  # before anything imports mmpose

__all__ = ['__version__']
