# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Sizes and costs of models, and the papers' figures to compare them with."""
from .complexity import (
    Complexity,
    build_model,
    count_complexity,
    load_config,
    model_input_size,
    time_forward,
)
from .papers import PAPER_SIZES, PaperSize
from .report import (
    FORMATS,
    compare_with_papers,
    is_settled,
    measure_size,
    papers_table,
    size_table,
)

__all__ = [
    'FORMATS', 'PAPER_SIZES', 'Complexity', 'PaperSize', 'build_model',
    'compare_with_papers', 'count_complexity', 'is_settled', 'load_config',
    'measure_size', 'model_input_size', 'papers_table', 'size_table',
    'time_forward'
]
