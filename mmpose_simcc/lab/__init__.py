# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The laboratory: compares representations and decoders on data."""
from .compare import compare
from .errors import LabError
from .runs import Run
from .study import Study, load_study, named_models, run_study, study_runs
from .training import Launcher

__all__ = [
    'LabError', 'Launcher', 'Run', 'Study', 'compare', 'load_study',
    'named_models', 'run_study', 'study_runs'
]
