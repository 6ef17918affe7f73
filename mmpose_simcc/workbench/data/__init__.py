# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""People's own annotations: brought to COCO's format, and looked at before a training."""

from .check import Finding, check_annotations, check_data
from .importing import import_data
from .samples import write_samples
from .sigmas import measure_sigmas

__all__ = [
    'Finding',
    'check_annotations',
    'check_data',
    'import_data',
    'measure_sigmas',
    'write_samples',
]
