# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Tables and plot of a calibration."""

from pathlib import Path
from typing import Any, List, Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from ...utils.files import whole_file
from ..metrics import goodness
from .calibrate import Calibration, Choice

ALSO_SHOWN = ('AP', 'AP .75', 'PCK', 'PCK@0.1')
# distinct also for colour-blind readers (Okabe and Ito)
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7')
OTHERS = ('#777777', '#aaaaaa', '#333333', '#8a6d3b')


def shown_metrics(calibration: Calibration) -> List[str]:
    """The deciding metric first, then others that papers print."""
    names = calibration.chosen.held_out.metrics
    return [calibration.metric] + [
        name for name in names if name.split('/')[-1] in ALSO_SHOWN and name != calibration.metric
    ]


def delta_text(delta: Any) -> str:
    if delta is None:
        return ''
    if not isinstance(delta, list):
        return f'{delta:g}'
    if not isinstance(delta[0], list):
        return ', '.join(f'{number:g}' for number in delta)
    low, high = np.min(delta, 0), np.max(delta, 0)
    if all(x == y for x, y in delta):
        return f'{low[0]:g}..{high[0]:g}'
    return ' / '.join(f'{a:g}..{b:g}' for a, b in zip(low, high))


def _table(calibration: Calibration, choices: List[Choice], kind: str) -> Table:
    compared = any(choice.gain for choice in choices)
    judged = any(choice.supported is not None for choice in choices)
    metrics = shown_metrics(calibration)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(kind, no_wrap=True)
    for name in (
        f'D ({calibration.unit})',
        'fitted',
        'held out',
        *(name.split('/')[-1] for name in metrics),
    ):
        table.add_column(name, justify='right', no_wrap=True)
    if compared:
        table.add_column('gain [95 %]', no_wrap=True)
        table.add_column('over', no_wrap=True)
    if judged:
        table.add_column('supported', no_wrap=True)
    for choice in choices:
        row = [
            choice.name,
            delta_text(choice.delta),
            f'{choice.fit.similarity:.4f}',
            f'{choice.held_out.similarity:.4f}',
        ]
        row += [f'{choice.held_out.metrics[name]:.4f}' for name in metrics]
        if compared:
            row += [str(choice.gain or ''), choice.against]
        if judged:
            row.append({None: '', True: 'yes', False: 'no'}[choice.supported])
        table.add_row(*row, style='bold' if choice is calibration.chosen else None)
    return table


def print_report(calibration: Calibration, console: Console) -> None:
    """Print curve, comparisons and what was chosen."""
    setting = calibration.chosen.setting
    curves = [curve for curve in calibration.curves if len(curve.metric_deltas)]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f'D ({calibration.unit})')
    for curve in curves:
        table.add_column(str(curve.setting), justify='right')
    for row, delta in enumerate(curves[0].metric_deltas):
        cells = []
        for curve in curves:
            mark = ''
            if delta == calibration.empirical[curve.setting]:
                mark += ' e'
            if row == goodness(curve.metrics, calibration.metric).argmax():
                mark += ' *'
            cells.append(f'{curve.metrics[row]:.4f}{mark:<4}')
        table.add_row(f'{delta:g}', *cells)

    def show(title: str, table: Table) -> None:
        console.print(title, style='bold', highlight=False)
        console.print(table)

    show(f'{calibration.metric} on the fitted images', table)
    rule = 'symmetric' if calibration.representation == 'simcc' else "the paper's empirical D"
    console.print(
        f'  e: {rule}; *: the best\n\nBelow: mean keypoint similarity on '
        'the fitted and the held-out images, metrics and gains in similarity '
        'on the held-out ones. Metrics are of '
        f'{calibration.metric_images["fit"]} fitted and '
        f'{calibration.metric_images["held_out"]} held-out images.\n',
        highlight=False,
    )
    show('Other decoders', _table(calibration, calibration.references, 'decoder'))
    if len(calibration.settings) > 1:
        show(
            'Corners, smoothing and border, each at its best D by similarity',
            _table(calibration, calibration.settings, 'cut corner'),
        )
    granularity = 'Granularity of D'
    if calibration.representation == 'heatmap':
        granularity += f' (cut corner: {setting})'
    show(granularity, _table(calibration, calibration.choices, 'D'))
    verdict = calibration.verdict
    gain = verdict.gain
    word = (
        'is better than'
        if gain.low > 0
        else 'is worse than'
        if gain.high < 0
        else 'is not told apart from'
    )
    data = calibration.source['data']
    console.print(
        f'chosen on {data["people"]} people: {verdict.name}, D = '
        f'{delta_text(verdict.delta)} {calibration.unit}\n'
        f'On the held-out images it {word} {verdict.against}: '
        f'{gain} in similarity.',
        highlight=False,
    )


def _mark(axes: Axes, delta: float, color: str, label: Optional[str]) -> None:
    axes.axvline(delta, color=color, linestyle='--', linewidth=1, label=label)


def plot_calibration(calibration: Calibration, path: Path) -> Path:
    """Plot the metric by D (DAEC, Figures 6 and 9), the similarity by D for
    every corner, and the held-out gains of finer choices.

    Args:
        calibration (Calibration): What to plot.
        path (Path): The picture.

    Returns:
        Path: The picture.
    """
    figure = Figure(figsize=(14, 4.2), layout='constrained')
    left, middle, right = figure.subplots(1, 3)
    setting = calibration.chosen.setting
    is_heatmap = calibration.representation == 'heatmap'
    rule = 'empirical' if is_heatmap else 'symmetric'
    curves = [curve for curve in calibration.curves if len(curve.metric_deltas)]
    empirical = {}  # and the color of its mark
    for curve, color in zip(curves, COLORS):
        name = f'cut {curve.setting}' if is_heatmap else 'DAEC'
        left.plot(curve.metric_deltas, curve.metrics, '.-', color=color, label=name)
        best = goodness(curve.metrics, calibration.metric).argmax()
        left.plot(curve.metric_deltas[best], curve.metrics[best], '*', color=color, markersize=13)
        empirical.setdefault(calibration.empirical[curve.setting], color)
    for delta, color in empirical.items():
        _mark(left, delta, color, f'{rule} D = {delta:g}')
    for reference, color in zip(calibration.references, OTHERS):
        value = reference.fit.metrics[calibration.metric]
        left.axhline(value, color=color, linestyle=':', label=reference.name)
    left.set_ylabel(f'{calibration.metric} on fitted images')
    left.set_title('D by the metric (star: best)', loc='left')

    same = [c for c in calibration.curves if c.setting[1:] == setting[1:]]
    for curve, color in zip(same, COLORS):
        middle.plot(
            curve.deltas,
            curve.similarity,
            color=color,
            label=f'cut {curve.setting}' if is_heatmap else 'DAEC',
        )
    for reference, color in zip(calibration.references, OTHERS):
        middle.axhline(reference.fit.similarity, color=color, linestyle=':', label=reference.name)
    _mark(middle, calibration.empirical[setting], 'black', f'{rule} D')
    middle.set_ylabel('mean keypoint similarity, fitted images')
    middle.set_title('Fractional D', loc='left')
    for axes in (left, middle):
        axes.set_xlabel(f'D ({calibration.unit})')
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)

    steps = calibration.choices[1:]
    for row, choice in enumerate(steps):
        gain = choice.gain
        color = '#009E73' if choice.supported else '#D55E00'
        right.plot((gain.low, gain.high), (row, row), color=color)
        right.plot(gain.value, row, 'o', color=color)
    right.axvline(0, color='black', linewidth=1)
    right.set_yticks(
        range(len(steps)), [f'{choice.name}\nover {choice.against}' for choice in steps]
    )
    right.set_ylim(len(steps) - 0.5, -0.5)
    right.set_xlabel('gain on held-out images (green: supported)')
    right.set_title('Does a finer D generalise?', loc='left')
    right.grid(axis='x', alpha=0.3)
    for axes in (left, middle, right):
        axes.spines[['top', 'right']].set_visible(False)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=150)
    return path
