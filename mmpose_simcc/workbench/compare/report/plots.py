# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Plots of a study: its metric in the paper's form, and what scores are worth."""

from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ....utils.files import whole_file
from ...metrics import lower_is_better, with_unit
from ...reliability import BINS, bin_sums, equal_mass_bins, kept, with_truth
from ...scoring import find_similarity
from ..rows import Row, metric_key, unit_factor
from ..runs import Run
from ..study import Study

# distinct also for colour-blind readers (Okabe and Ito)
COLORS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#B8A900', '#000000')
# a training among several
DOTS = dict(
    marker='o', linestyle='', markersize=3, color='white', markeredgecolor='#333333', zorder=3
)
FEW = 50  # keypoints of which no share is drawn


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as an image."""
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=150, bbox_inches='tight')
    return path


class Point(NamedTuple):
    """A row in the plot of a study, in the unit of tables.

    Attributes:
        x (Any): Its value of the factor on the x axis.
        value (float): Its metric.
        low (float): The lower end of its interval.
        high (float): The upper end.
        dots (list[float]): The metric of each of several trainings.
    """

    x: Any
    value: float
    low: float
    high: float
    dots: List[float]


def plot_study(
    study: Study, rows: Sequence[Row], ranges: Optional[Sequence[Tuple[float, float]]]
) -> Figure:
    """Plot the study's metric in the paper's form, with the 95% interval of each value and a dot
    for each of several trainings.

    Args:
        study (Study): Its ``plot`` names the kind, x and series.
        rows (list[Row]): The rows.
        ranges (list[tuple], optional): For each row, the interval in the unit of tables.
    """
    form = dict(dict(kind='bars', x='model', series='decoder'), **study.plot)
    key = metric_key(rows, study.value)
    series: Dict[str, List[Point]] = {}
    for i, row in enumerate(rows):
        factor = unit_factor(row, key)
        value = factor * row.metrics[key]
        low, high = ranges[i] if ranges else (value, value)
        dots = [factor * training.metrics[key] for training in row.trainings]
        name = study.label(form['series'], row.factors.get(form['series']))
        point = Point(row.factors.get(form['x']), value, low, high, dots[1:] and dots)
        series.setdefault(name, []).append(point)
    colors = dict(zip(series, COLORS * len(series)))
    figure = Figure()  # of its own: pyplot's state is the user's
    axes = figure.subplots()
    draw = _bars if form['kind'] == 'bars' else _lines
    draw(axes, study, form, series, colors)
    axes.set_ylabel(with_unit(study.value) if lower_is_better(key) else f'{study.value} (%)')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(
        [Line2D([], [], color=color, linewidth=6) for color in colors.values()],
        colors,
        title=study.title_of(form['series']),
        loc='upper left',
        bbox_to_anchor=(1, 1),
        frameon=False,
    )
    return figure


def _bars(axes: Axes, study: Study, form: dict, series: dict, colors: dict) -> None:
    groups: Dict[str, list] = {}
    for name, points in series.items():
        for point in points:
            groups.setdefault(study.label(form['x'], point.x), []).append((name, point))
    axes.figure.set_size_inches(1 + 0.62 * sum(len(group) + 1 for group in groups.values()), 3.8)
    place, centers = 0, []
    for group in groups.values():
        centers.append(place + (len(group) - 1) / 2)
        for name, point in group:
            axes.bar(place, point.value, 0.86, color=colors[name])
            whiskers = [[point.value - point.low], [point.high - point.value]]
            axes.errorbar(place, point.value, whiskers, color='#333333', linewidth=1, capsize=2)
            axes.plot(np.full(len(point.dots), place) - 0.25, point.dots, **DOTS)
            axes.annotate(
                f'{point.value:#.3g}',
                (place, max([point.high, *point.dots])),
                (0, 2),
                textcoords='offset points',
                ha='center',
                fontsize=8,
            )
            place += 1
        place += 1
    labels = [label.replace('_', '\n').replace(', ', ',\n') for label in groups]
    axes.set_xticks(centers, labels)
    axes.tick_params(axis='x', length=0)
    axes.set_ylim(bottom=0)
    if len(groups) > 1:
        axes.set_xlabel(study.title_of(form['x']))


def _lines(axes: Axes, study: Study, form: dict, series: dict, colors: dict) -> None:
    axes.figure.set_size_inches(5.5, 3.8)
    ticks, marked = {}, 0
    for name, points in series.items():
        points = sorted(points, key=lambda point: np.prod(point.x))
        # an input size has the place of its width
        xs = [p.x[0] if isinstance(p.x, (tuple, list)) else p.x for p in points]
        ticks.update({x: study.label(form['x'], point.x) for x, point in zip(xs, points)})
        values, low, high = zip(*((p.value, p.low, p.high) for p in points))
        axes.fill_between(xs, low, high, color=colors[name], alpha=0.15, linewidth=0)
        axes.plot(xs, values, 'o-', color=colors[name], markersize=4)
        for x, point in zip(xs, points):
            axes.plot(np.full(len(point.dots), x), point.dots, **DOTS)
        marks = {str(value): mark for value, mark in form.get('marks', {}).items()}
        if name in marks:
            axes.axvline(marks[name], color=colors[name], linestyle='--', linewidth=1)
            axes.annotate(
                form.get('mark_label', ''),
                (marks[name], 1),
                (3, -2 - 11 * marked),
                xycoords=axes.get_xaxis_transform(),
                textcoords='offset points',
                color=colors[name],
                va='top',
                fontsize=8,
            )
            marked += 1  # a line of its own for each label
    if min(ticks) > 0 and max(ticks) >= 10 * min(ticks):  # the small ones would lie in one place
        axes.set_xscale('log')
        axes.minorticks_off()
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel(study.title_of(form['x']))
    axes.grid(alpha=0.3)


def plot_scores(rows: Sequence[Row], runs: Dict[str, Run]) -> Figure:
    """Plot, for each model, the reliability of its decoders' scores and the keypoints that a
    threshold keeps.

    Args:
        rows (list[Row]): The rows; those without a truth to compare with are left out.
        runs (dict): Their runs by name.
    """
    with_scores = [row for row in rows if 'ECE' in row.metrics]
    groups = [
        (runs[name], list(group)) for name, group in groupby(with_scores, key=lambda r: r.config)
    ]
    figure = Figure(figsize=(10, 4.6 * len(groups)), layout='constrained')
    grid = figure.subplots(len(groups), 2, squeeze=False)
    for (run, group), (worth, threshold) in zip(groups, grid):
        calibrated = sorted({t.calibrated_on for row in group for t in row.trainings} - {None})
        lines = [run.name, *(f'calibrated on {name}' for name in calibrated)]
        lines.append(f'judged on {", ".join(file.name for file in run.annotation_files)}')
        worth.set_title('\n'.join(fill(line, 70) for line in lines), fontsize=8, loc='left')
        counts = worth.inset_axes([0, 0, 1, 0.18])
        counts.axis('off')
        # a colour for raw and calibrated scores of a decoder, paler for the raw ones
        names = dict.fromkeys(row.decoder.partition(',')[0] for row in group)
        colors = dict(zip(names, COLORS * len(names)))
        for row in group:
            name, _, is_calibrated = row.decoder.partition(',')
            pale = calibrated and not is_calibrated
            style = dict(color=colors[name], alpha=0.4 if pale else 1.0)
            scores, similarity = _keypoints(row)
            count, *sums = bin_sums(equal_mass_bins(scores), BINS, scores, similarity)
            points = [values[count > 0] / count[count > 0] for values in sums]
            worth.plot(*points, 'o-', markersize=3, **style)
            counts.hist(scores, 40, histtype='step', **style)
            thresholds, left, right = kept(scores, similarity)
            right[left * len(scores) < FEW] = np.nan
            threshold.plot(thresholds, left, label=row.decoder, **style)
            threshold.plot(thresholds, right, ':', **style)
        worth.plot([0, 1], [0, 1], '--', color='#888888', linewidth=1, zorder=0)
        counts.set_xlim(worth.get_xlim())
        worth.set_ylabel(f'mean similarity ({find_similarity(run.build_metrics())})')
        worth.set_xlabel(f'score ({BINS} bins of about {len(scores) // BINS} keypoints)')
        threshold.set_xlabel('threshold')
        threshold.set_ylabel('keypoints kept (solid), right of these (dotted)')
        for axes in (worth, threshold):
            axes.set_ylim(0, 1.02)
            axes.grid(alpha=0.3)
            axes.spines[['top', 'right']].set_visible(False)
        threshold.legend(frameon=False, fontsize=8)
    return figure


def _keypoints(row: Row) -> Tuple[np.ndarray, np.ndarray]:
    """Scores and similarities of the keypoints of all trainings that have a truth."""
    parts = [with_truth(*t.load('scores', 'similarity'))[:2] for t in row.trainings]
    scores, similarity = np.concatenate(parts, 1)
    return scores, similarity
