# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Speed against stock MMPose, measured side by side in one process."""
from .codecs import SETTINGS, codec_comparisons
from .loss import add_peak_bytes, loss_comparisons
from .report import (
    benchmark_table,
    machine,
    plot_benchmark,
    save_benchmark,
)
from .timing import Comparison, Result, run_comparisons

__all__ = [
    'SETTINGS', 'Comparison', 'Result', 'add_peak_bytes', 'benchmark_table',
    'codec_comparisons', 'loss_comparisons', 'machine', 'plot_benchmark',
    'run_comparisons', 'save_benchmark'
]
