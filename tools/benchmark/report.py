# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""A benchmark as a table, as JSON and as a plot."""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Dict, List

import mmpose
import numpy as np
import torch
from matplotlib.figure import Figure

from mmpose_simcc.utils.files import whole_file
from mmpose_simcc.workbench.tables import markdown_table

from .codecs import FILL, FLOOR, LOOPS, READ, STOCK, UDP
from .timing import OURS, Result

PEERS = (STOCK, UDP, LOOPS, FLOOR, FILL, READ)


def machine(device: str, threads: int) -> Dict[str, str]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    if device == 'cuda':
        name = torch.cuda.get_device_name()
    return dict(
        device=name,
        threads=str(threads),
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        mmpose=mmpose.__version__,
    )


def _time(result: Result, name: str) -> str:
    if name not in result.seconds:
        return ''
    median, spread = result.median(name), result.spread(name)
    return f'{median * 1e6:.1f} ± {100 * spread:.0f}%'


def _aim(result: Result) -> str:
    if result.aim is None:
        return ''
    if result.aim < 1:  # at most so many times the peer's time
        text = f'{1 / result.aim:g} x {result.peer}'
        if result.slack:
            text += f' + {result.slack * 1e6:g} us'
    else:
        text = f'{result.aim:g}x'
    return f'{text}: {100 * result.reached():.0f}%'


def benchmark_table(results: List[Result]) -> str:
    """Microseconds an item (median, half the interquartile range) and how
    many times as long as ours each peer takes, in Markdown."""
    peers = [name for name in PEERS if any(name in r.seconds for r in results)]
    rows = [
        [
            r.task,
            r.method,
            r.size,
            _time(r, OURS),
            *(_time(r, name) for name in peers),
            *(f'{r.ratio(name):.2f}' if name in r.seconds else '' for name in peers),
            _aim(r),
            *([_bytes(r)] if any(x.extra for x in results) else []),
        ]
        for r in results
    ]
    headers = [
        'task',
        'method',
        'size',
        'ours, us',
        *(f'{name}, us' for name in peers),
        *(f'{name} / ours' for name in peers),
        'aim: reached',
    ]
    if any(r.extra for r in results):
        headers.append('peak MB, ours / stock')
    return markdown_table(rows, headers)


def throughput_table(results: List[Result]) -> str:
    """Images a second (median, half the interquartile range), in Markdown."""
    rows = [
        [
            r.task,
            r.method,
            r.size,
            name,
            f'{1 / r.median(name):.2f} ± {100 * r.spread(name):.0f}%',
            '' if name == OURS else f'{r.ratio(name):.3f}',
            '' if name == OURS else _aim(r),
        ]
        for r in results
        for name in r.seconds
    ]
    headers = (
        'task',
        'method',
        'size',
        'codec or model',
        'images/s',
        'ours is faster by',
        'aim: reached',
    )
    return markdown_table(rows, headers)


def _bytes(result: Result) -> str:
    peak = result.extra.get('peak_bytes')
    if peak is None:
        return ''
    return f'{peak[OURS] / 1e6:.1f} / {peak[STOCK] / 1e6:.1f}'


def save_benchmark(results: List[Result], about: Dict[str, str], path: Path) -> None:
    """Write every round's times as JSON."""
    rows = []
    for result in results:
        row = asdict(result)
        row['seconds'] = {k: v.tolist() for k, v in result.seconds.items()}
        row['median'] = {k: result.median(k) for k in result.seconds}
        row['ratio'] = {k: result.ratio(k) for k in result.seconds if k != OURS}
        row['reached'] = result.reached()
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(dict(about=about, results=rows), indent=1))


def plot_benchmark(results: List[Result], path: Path) -> None:
    """Bars of how many times as fast as stock each codec is."""
    rows = [r for r in results if STOCK in r.seconds]
    sizes = list(dict.fromkeys(r.size for r in rows if r.task != 'loss'))
    names = list(dict.fromkeys((r.task, r.method) for r in rows if r.task != 'loss'))
    figure = Figure(figsize=(7, 0.34 * len(names) + 1))
    axes = figure.subplots()
    height = 0.8 / len(sizes)
    for index, (size, color) in enumerate(zip(sizes, ('#0072B2', '#E69F00', '#009E73'))):
        ratios = {(r.task, r.method): r.ratio(STOCK) for r in rows if r.size == size}
        offset = (index - (len(sizes) - 1) / 2) * height
        places = np.arange(len(names)) + offset
        values = [ratios.get(name, np.nan) for name in names]
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
