# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The laboratory: compares representations and decoders on data."""
from .compare import compare
from .errors import LabError
from .runs import Run, load_run
from .training import Launcher

__all__ = ['LabError', 'Launcher', 'Run', 'compare', 'load_run']
