# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Speed against stock MMPose, measured side by side in one process."""

from .codecs import SETTINGS, codec_comparisons
from .loss import add_peak_bytes, loss_comparisons
from .models import end_to_end, forward_times
from .report import benchmark_table, machine, plot_benchmark, save_benchmark, throughput_table
from .timing import Comparison, Result, run_comparisons

__all__ = [
    'SETTINGS',
    'Comparison',
    'Result',
    'add_peak_bytes',
    'benchmark_table',
    'codec_comparisons',
    'end_to_end',
    'forward_times',
    'loss_comparisons',
    'machine',
    'plot_benchmark',
    'run_comparisons',
    'save_benchmark',
    'throughput_table',
]
