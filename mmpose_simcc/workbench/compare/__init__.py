# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Compares representations and decoders on data."""

from .comparison import compare, run_study
from .errors import CompareError
from .launch import Launcher
from .runs import Run
from .study import Study, load_study, named_models, study_runs

__all__ = [
    'CompareError',
    'Launcher',
    'Run',
    'Study',
    'compare',
    'load_study',
    'named_models',
    'run_study',
    'study_runs',
]
