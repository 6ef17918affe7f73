# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""A benchmark as a table and as a plot."""

from pathlib import Path
from typing import List

import numpy as np
from matplotlib.figure import Figure

from mmpose_simcc.utils.files import whole_file
from mmpose_simcc.workbench.tables import markdown_table

from .codecs import FLOOR, STOCK
from .comparison import OURS, Comparison


def _aim(comparison: Comparison) -> str:
    if comparison.aim is None:
        return ''
    return f'{comparison.aim}: {100 * comparison.reached():.0f}%'


def benchmark_table(comparisons: List[Comparison]) -> str:
    """Microseconds an image (median, half the interquartile range), and how many times as long as
    ours the peers take, in Markdown."""

    def time(c: Comparison, name: str) -> str:
        if name not in c.seconds:
            return ''
        return f'{c.median(name) * 1e6:.1f} ± {100 * c.spread(name):.0f}%'

    rows = [
        [
            *(c.task, c.method, c.size),
            *(time(c, name) for name in (OURS, STOCK, FLOOR)),
            *(f'{c.ratio(name):.2f}' if name in c.seconds else '' for name in (STOCK, FLOOR)),
            _aim(c),
        ]
        for c in comparisons
    ]
    headers = [
        *('task', 'method', 'size', 'ours, us', 'stock, us', 'floor, us'),
        *('stock / ours', 'floor / ours', 'aim: reached'),
    ]
    return markdown_table(rows, headers)


def throughput_table(comparisons: List[Comparison]) -> str:
    """Images a second (median, half the interquartile range), in Markdown."""
    rows = [
        [
            *(c.task, c.method, c.size, name),
            f'{1 / c.median(name):.2f} ± {100 * c.spread(name):.0f}%',
            *(('', '') if name == OURS else (f'{c.ratio(name):.3f}', _aim(c))),
        ]
        for c in comparisons
        for name in c.seconds
    ]
    headers = [
        *('task', 'method', 'size', 'codec or model', 'images/s'),
        *('ours is faster by', 'aim: reached'),
    ]
    return markdown_table(rows, headers)


def plot_benchmark(comparisons: List[Comparison], path: Path) -> None:
    """Bars of how many times as fast as stock each codec is."""
    rows = [c for c in comparisons if STOCK in c.seconds]
    sizes = list(dict.fromkeys(c.size for c in rows))
    names = list(dict.fromkeys((c.task, c.method) for c in rows))
    figure = Figure(figsize=(7, 0.34 * len(names) + 1))
    axes = figure.subplots()
    height = 0.8 / len(sizes)
    for index, (size, color) in enumerate(zip(sizes, ('#0072B2', '#E69F00'))):
        ratios = {(c.task, c.method): c.ratio(STOCK) for c in rows if c.size == size}
        places = np.arange(len(names)) + (index - (len(sizes) - 1) / 2) * height
        values = [ratios[name] for name in names]
        bars = axes.barh(places, values, height, label=size, color=color)
        axes.bar_label(bars, fmt='%.1f', padding=2, fontsize=7)
    axes.axvline(1, color='black', linewidth=0.8)
    axes.set_xscale('log')
    axes.set_yticks(range(len(names)), [f'{task}: {method}' for task, method in names])
    axes.invert_yaxis()
    axes.set_xlabel('times as fast as stock MMPose, one thread')
    axes.legend(frameon=False)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=150, bbox_inches='tight')
