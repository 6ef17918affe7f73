# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Speed against stock MMPose, measured side by side in one process."""

from .codecs import SETTINGS, codec_comparisons
from .comparison import Aim, Comparison, time_comparisons
from .models import forward_comparison, test_loop_comparisons
from .report import benchmark_table, plot_benchmark, throughput_table

__all__ = [
    'SETTINGS',
    'Aim',
    'Comparison',
    'benchmark_table',
    'codec_comparisons',
    'forward_comparison',
    'plot_benchmark',
    'test_loop_comparisons',
    'throughput_table',
    'time_comparisons',
]
