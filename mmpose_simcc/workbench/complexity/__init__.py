# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Sizes and costs of models, and the papers' figures to compare them with."""

from .count import Complexity, count_complexity, time_forward
from .papers import PAPER_SIZES, PaperSize
from .report import FORMATS, compare_with_papers, is_settled, measure_size, papers_table, size_table

__all__ = [
    'FORMATS',
    'PAPER_SIZES',
    'Complexity',
    'PaperSize',
    'compare_with_papers',
    'count_complexity',
    'is_settled',
    'measure_size',
    'papers_table',
    'size_table',
    'time_forward',
]
