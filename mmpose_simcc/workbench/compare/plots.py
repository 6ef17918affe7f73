# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Plots of a study."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...utils.files import whole_file
from ..metrics import lower_is_better, title
from .study import Study
from .tables import Row, metric_key, shown_value, unit_factor

# distinct also for colour-blind readers (Okabe and Ito)
COLORS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#B8A900', '#000000')

# a training among several
DOTS = dict(
    marker='o', linestyle='', markersize=3, color='white', markeredgecolor='#333333', zorder=3
)


def save(figure: Figure, path: Path) -> Path:
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=150, bbox_inches='tight')
    return path


def plot_study(
    study: Study, rows: List[Row], ranges: Optional[Sequence[Tuple[float, float]]], path: Path
) -> Path:
    """Plot the study's metric in the paper's form, with the 95% intervals of
    each value and a dot for each of several trainings.

    Args:
        study (Study): Its ``plot`` names the kind, x and series.
        rows (list[Row]): The rows.
        ranges (list[tuple], optional): For each row, the interval of the metric, in the unit of
            tables.
        path (Path): The image.
    """
    form = dict(dict(kind='bars', x='model', series='decoder'), **study.plot)
    key = metric_key(rows, study.value)
    series: Dict[str, list] = {}
    for i, row in enumerate(rows):
        value = shown_value(row, key)
        low, high = ranges[i] if ranges else (value, value)
        dots = [unit_factor(row, key) * training.metrics[key] for training in row.trainings]
        name = study.label(form['series'], row.factors.get(form['series']))
        series.setdefault(name, []).append(
            (row.factors.get(form['x']), value, (value - low, high - value), dots[1:] and dots)
        )
    colors = dict(zip(series, COLORS * len(series)))
    # figures of their own: pyplot's state is the user's
    figure = Figure()
    axes = figure.subplots()
    draw = _bars if form['kind'] == 'bars' else _lines
    draw(axes, study, form, series, colors)
    axes.set_ylabel(title(key) if lower_is_better(key) else f'{study.value} (%)')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(
        [Line2D([], [], color=c, linewidth=6) for c in colors.values()],
        colors,
        title=study.title_of(form['series']),
        loc='upper left',
        bbox_to_anchor=(1, 1),
        frameon=False,
    )
    return save(figure, path)


def _bars(axes: Axes, study: Study, form: dict, series: dict, colors: dict) -> None:
    groups: Dict[str, list] = {}
    for name, points in series.items():
        for x, value, reach, dots in points:
            label = study.label(form['x'], x)
            groups.setdefault(label, []).append((name, value, reach, dots))
    bars = sum(len(group) + 1 for group in groups.values())
    axes.figure.set_size_inches(1 + 0.62 * bars, 3.8)
    place, centers = 0.0, []
    for group in groups.values():
        centers.append(place + (len(group) - 1) / 2)
        for name, value, reach, dots in group:
            axes.bar(place, value, 0.86, color=colors[name])
            axes.errorbar(
                place, value, np.reshape(reach, (2, 1)), color='#333333', linewidth=1, capsize=2
            )
            axes.plot(np.full(len(dots), place) - 0.25, dots, **DOTS)
            axes.annotate(
                f'{value:#.3g}',
                (place, max([value + reach[1], *dots])),
                (0, 2),
                textcoords='offset points',
                ha='center',
                fontsize=8,
            )
            place += 1
        place += 1
    axes.set_xticks(centers, [_wrap(label) for label in groups])
    axes.tick_params(axis='x', length=0)
    axes.set_ylim(bottom=0)
    if len(groups) > 1:
        axes.set_xlabel(study.title_of(form['x']))


def _wrap(name: str) -> str:
    return name.replace('_', '\n').replace(', ', ',\n')


def _lines(axes: Axes, study: Study, form: dict, series: dict, colors: dict) -> None:
    axes.figure.set_size_inches(5.5, 3.8)
    ticks, marked = {}, 0
    for name, points in series.items():
        points = sorted(points, key=lambda point: np.prod(point[0]))
        # an input size has the place of its width
        xs = [x[0] if isinstance(x, (tuple, list)) else x for x, *_ in points]
        ticks.update({place: study.label(form['x'], x) for place, (x, *_) in zip(xs, points)})
        values = np.array([value for _, value, _, _ in points])
        reach = np.array([reach for _, _, reach, _ in points]).T
        axes.plot(xs, values, 'o-', color=colors[name], markersize=4)
        for x, (*_, dots) in zip(xs, points):
            axes.plot(np.full(len(dots), x), dots, **DOTS)
        axes.fill_between(
            xs, values - reach[0], values + reach[1], color=colors[name], alpha=0.15, linewidth=0
        )
        marks = form.get('marks', {})
        mark = next((marks[m] for m in marks if str(m) == name), None)
        if mark is not None:
            axes.axvline(mark, color=colors[name], linestyle='--', linewidth=1)
            axes.annotate(
                form.get('mark_label', ''),
                (mark, 1),
                (3, -2 - 11 * marked),
                xycoords=axes.get_xaxis_transform(),
                textcoords='offset points',
                color=colors[name],
                va='top',
                fontsize=8,
            )
            marked += 1  # a line of its own for each label
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel(study.title_of(form['x']))
    axes.grid(alpha=0.3)
