# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Writes a study: tables, plots, pictures, and one page with all of them."""

import base64
import math
import os
import platform
import re
import shlex
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from jinja2 import Environment, FileSystemLoader

from ...utils.console import track
from ...utils.files import whole_file
from ...version import __version__
from ..metrics import RELIABILITY, goodness, lower_is_better, title
from ..scoring import find_similarity
from ..statistics import (
    ERROR_RATE,
    REPEATS,
    Measured,
    adjust,
    confidence_interval,
    noise_of,
    noise_of_difference,
)
from .bootstrap import measure, resampled_names
from .evaluation import build_metrics
from .pictures import plot_disagreement, plot_samples
from .plots import plot_study
from .runs import Run, check_data
from .score_plots import plot_scores
from .study import Study, check_metric_names
from .tables import (
    Row,
    best_row,
    flat_table,
    main_metric,
    markdown_table,
    metric_key,
    study_table,
    unit_factor,
    write_tables,
)


@dataclass(frozen=True)
class Difference:
    """A row's metric and its difference to a baseline, in percent or pixels,
    each with its 95% interval over resampled images and trainings.

    Attributes:
        row (Row): The row.
        value (float): Its metric.
        range (tuple): Interval of the metric.
        baseline (Row, optional): What it is compared with; None for the
            baseline itself.
        difference (float): Metric minus the baseline's.
        difference_range (tuple): Paired interval of the difference.
        p_value (float): Of the difference, by Holm for all of the table.
        lower_is_better (bool): Whether the metric is an error.
    """

    row: Row
    value: float
    range: Tuple[float, float]
    baseline: Optional[Row] = None
    difference: float = 0.0
    difference_range: Tuple[float, float] = (0.0, 0.0)
    p_value: float = 1.0
    lower_is_better: bool = False

    @property
    def verdict(self) -> str:
        """Whether the data tell the two apart."""
        if self.p_value > ERROR_RATE:
            return 'not told apart'
        return 'better' if (self.difference > 0) != self.lower_is_better else 'worse'


def _find_baseline(study: Study, row: Row, rows: List[Row], key: str) -> Optional[Row]:
    """What a row is compared with: of the same test data, whose resamples
    are the same."""
    rows = [other for other in rows if other.test_data == row.test_data]
    if not study.baseline:
        found = best_row(rows, key)
        return None if found is row else found
    target = {**row.factors, **study.baseline}
    names = {*_row_factors(study, rows), *study.baseline}
    for other in rows:
        if all(other.factors.get(name) == target.get(name) for name in names):
            return None if other is row else other
    return None


def _row_factors(study: Study, rows: List[Row]) -> List[str]:
    """The factors that tell the study's rows apart."""
    columns = [study.columns] if isinstance(study.columns, str) else []
    factors = [*study.rows, *columns]
    varied = [
        name
        for name in factors
        if len({study.label(name, row.factors.get(name)) for row in rows}) > 1
    ]
    return varied or factors


def differences(study: Study, rows: List[Row], measured: Sequence[Measured]) -> List[Difference]:
    """Compare every row with its baseline.

    A baseline that the study names is compared with each of the others. The
    best row, found afterwards, could have been any: all pairs count then.

    Args:
        study (Study): Its ``baseline`` and ``value``.
        rows (list[Row]): Rows that have the metric.
        measured (list[Measured]): The metric of each row, in the unit of
            tables.
    """
    key = metric_key(rows, study.value)
    of_row = {id(row): values for row, values in zip(rows, measured)}
    found = []
    for row, own in zip(rows, measured):
        value = float(own.values.mean())
        highest = math.inf if lower_is_better(key) else 100.0
        item = Difference(row, value, confidence_interval(value, noise_of(own), 0.0, highest))
        base = _find_baseline(study, row, rows, key)
        if base is not None:
            difference = value - float(of_row[id(base)].values.mean())
            noise = noise_of_difference(own, of_row[id(base)])
            item = replace(
                item,
                baseline=base,
                difference=difference,
                difference_range=confidence_interval(difference, noise),
                p_value=noise.p_value(difference),
                lower_is_better=lower_is_better(key),
            )
        found.append(item)
    compared = [i for i, item in enumerate(found) if item.baseline]
    family = len(compared) if study.baseline else len(rows) * (len(rows) - 1) // 2
    adjusted = adjust([found[i].p_value for i in compared], family)
    for i, value in zip(compared, adjusted):
        found[i] = replace(found[i], p_value=value)
    return found


def _name(study: Study, row: Row, rows: List[Row]) -> str:
    """A row in words."""
    words = []
    for factor in _row_factors(study, rows):
        label = study.label(factor, row.factors.get(factor))
        if re.fullmatch(r'-?[\d.]+|yes|no', label, re.IGNORECASE):
            label = f'{study.title_of(factor).lower()} {label}'
        words.append(label)
    return ', '.join(words)


def difference_table(study: Study, found: List[Difference]) -> Tuple[List[str], List[List[str]]]:
    """Header and cells."""
    header = [
        'Row',
        f'{title(study.value)} [95%]',
        'Compared with',
        'Difference [95%]',
        'p (Holm)',
        'Verdict',
    ]
    rows = [item.row for item in found]
    cells = []
    for item in found:
        low, high = item.range
        cell = [_name(study, item.row, rows), f'{item.value:.2f} [{low:.2f}, {high:.2f}]']
        if item.baseline is None:
            cells.append([*cell, '-', '-', '-', '-'])
        else:
            low, high = item.difference_range
            cells.append(
                [
                    *cell,
                    _name(study, item.baseline, rows),
                    f'{item.difference:+.2f} [{low:+.2f}, {high:+.2f}]',
                    '< 0.001' if item.p_value < 0.001 else f'{item.p_value:.3f}',
                    item.verdict,
                ]
            )
    return header, cells


def _measured(rows: List[Row], runs: Dict[str, Run], key: str) -> Optional[List[Measured]]:
    """The metric of each row, in the unit of tables; None: there is no way to compute intervals
    for all."""
    found = []
    for row in track(rows, 'resample images'):
        values = measure(row, runs[row.config], key)
        if values is None:
            return None
        factor = unit_factor(row, key)
        found.append(
            values._replace(values=factor * values.values, samples=factor * values.samples)
        )
    return found


def _disagreeing(study: Study, rows: List[Row], key: str) -> Optional[Tuple[Row, Row]]:
    """The two rows whose pictures are shown: those that the study names, or
    the best and the worst on the test data of the first row."""
    rows = [row for row in rows if row.test_data == rows[0].test_data]
    if study.disagree:
        pair = []
        for wanted in study.disagree:
            wanted = dict(decoder=wanted) if isinstance(wanted, str) else wanted
            pair += [
                row for row in rows if all(row.factors.get(k) == v for k, v in wanted.items())
            ][:1]
    else:
        order = sorted(rows, key=lambda row: goodness(row.metrics[key], key))
        pair = [order[0], order[-1]]
    return tuple(pair) if len(pair) == 2 and pair[0] is not pair[1] else None


def remarks(study: Study, runs: Sequence[Run]) -> List[str]:
    """What a reader has to know of the data and metrics of a study, a line
    each. It can be said before anything is computed.

    Args:
        study (Study): The study.
        runs (list[Run]): Its models.

    Raises:
        CompareError: Data are not there, metrics cannot be built, or there is none of a name.
    """
    for run in runs:
        check_data(run, 'test')
    check_metric_names(study, runs)
    lines = []
    by_data: Dict[str, List[Run]] = {}
    for run in runs:
        by_data.setdefault(run.test_data, []).append(run)
    if len(by_data) > 1:
        groups = [
            f'{", ".join(run.name for run in group)} on '
            f'{", ".join(path.name for path in group[0].annotation_files)}'
            for group in by_data.values()
        ]
        lines.append(
            'rows of different test data are not compared with each other: ' + '; '.join(groups)
        )
    if len({run.boxes for run in runs}) > 1:
        lines.append(
            'people are cut out by different boxes: '
            + '; '.join(f'{run.name} by {run.boxes}' for run in runs)
        )
    for run in runs:
        metrics = build_metrics(run)
        names = [name for metric in metrics for name in resampled_names(metric)]
        if find_similarity(metrics):
            names += RELIABILITY
        if not names or (study.value or names[0]) not in names:
            kinds = ', '.join(type(metric).__name__ for metric in metrics)
            lines.append(f'{run.name}: {study.value or kinds} has no intervals and no verdicts')
    return lines


def write_report(study: Study, runs: Sequence[Run], rows: List[Row], folder: Path) -> List[Path]:
    """Write everything that a study shows.

    Args:
        study (Study): The study.
        runs (list[Run]): Its models.
        rows (list[Row]): Its results.
        folder (Path): Gets ``index.html``, a self-contained page, and its
            parts: ``table.*`` (the model zoo's form), ``study.md`` (the
            paper's form), ``differences.md``, ``plot.*``, ``samples.png``,
            ``scores.png`` and ``disagreement.png``.

    Returns:
        list[Path]: The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = replace(study, value=study.value or main_metric(rows))
    key = metric_key(rows, study.value)
    by_name = {run.name: run for run in runs}
    paths = write_tables(rows, folder)
    tables = dict(study=study_table(study, rows), all=flat_table(rows))
    rows = [row for row in rows if key in row.metrics]
    with_rows = [run for run in runs if any(row.config == run.name for row in rows)]
    measured = _measured(rows, by_name, key)
    ranges = None
    if measured is not None:
        found = differences(study, rows, measured)
        ranges = [item.range for item in found]
        tables['differences'] = difference_table(study, found)
    for name in ('study', 'differences'):
        if name not in tables:
            continue
        table = tables[name]
        paths.append(folder / f'{name}.md')
        with whole_file(paths[-1]) as unfinished:
            unfinished.write_text(markdown_table(*table) + '\n')
    paths.append(plot_study(study, rows, ranges, folder / 'plot.png'))
    images = [
        plot_study(study, rows, ranges, folder / 'plot.svg'),
        plot_samples(rows, with_rows, key, folder / 'samples.png'),
    ]
    if any('ECE' in row.metrics for row in rows):
        images.append(plot_scores(rows, by_name, folder / 'scores.png'))
    pair = _disagreeing(study, rows, key)
    names = [_name(study, row, rows) for row in pair or ()]
    if pair:
        images.append(
            plot_disagreement(
                pair, [by_name[row.config] for row in pair], names, folder / 'disagreement.png'
            )
        )
    page = folder / 'index.html'
    text = (
        Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
        .get_template('page.html')
        .render(
            study=study,
            tables=tables,
            remarks=remarks(study, runs),
            boxes=sorted({run.boxes for run in runs}),
            metric=title(key),
            images={path.stem: _embed(path) for path in images},
            compared=names,
            command=' '.join(map(shlex.quote, ['python', *sys.argv])),
            date=date.today().isoformat(),
            machine=_machine(),
            version=__version__,
            repeats=REPEATS,
            is_bound=bool(measured) and measured[0].is_bound,
            trained_once=sorted({row.config for row in rows if len(row.trainings) == 1}),
            seeds=max(len(row.trainings) for row in rows),
        )
    )
    with whole_file(page) as unfinished:
        unfinished.write_text(text, encoding='utf-8')
    return [page, *paths, *images]


def _embed(path: Path) -> str:
    kind = 'svg+xml' if path.suffix == '.svg' else 'png'
    content = base64.b64encode(path.read_bytes()).decode()
    return f'data:image/{kind};base64,{content}'


def _machine() -> str:
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f'{_cpu_name()}, {os.cpu_count()} cores'
    return f'{device}; torch {torch.__version__}'


def _cpu_name() -> str:
    info = Path('/proc/cpuinfo')
    found = info.is_file() and re.search(r'model name\s*: (.+)', info.read_text())
    return found[1] if found else platform.processor() or platform.machine()
