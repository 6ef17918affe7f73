# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Writes a study: tables, plots, pictures, and one page with all of them."""

import base64
import os
import platform
import re
import shlex
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader

from ...utils.console import track
from ...utils.files import whole_file
from ...version import __version__
from .bootstrap import REPEATS, bootstrap, interval
from .pictures import plot_disagreement, plot_samples
from .plots import plot_study
from .runs import Run
from .study import Study
from .tables import (
    Row,
    flat_table,
    main_metric,
    markdown_table,
    metric_key,
    percent,
    study_table,
    write_tables,
)


@dataclass(frozen=True)
class Difference:
    """A row's metric and its difference to a baseline, in percent, each with
    its 95% interval over resampled images.

    Attributes:
        row (Row): The row.
        value (float): Its metric.
        range (tuple): Interval of the metric.
        baseline (Row, optional): What it is compared with; None for the
            baseline itself.
        difference (float): Metric minus the baseline's.
        difference_range (tuple): Paired interval of the difference.
    """

    row: Row
    value: float
    range: Tuple[float, float]
    baseline: Optional[Row] = None
    difference: float = 0.0
    difference_range: Tuple[float, float] = (0.0, 0.0)

    @property
    def verdict(self) -> str:
        """Whether the data tell the two apart."""
        low, high = self.difference_range
        if low > 0:
            return 'better'
        return 'worse' if high < 0 else 'not told apart'


def _find_baseline(study: Study, row: Row, rows: List[Row], key: str) -> Optional[Row]:
    if not study.baseline:
        found = max(rows, key=lambda other: other.metrics[key])
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


def differences(study: Study, rows: List[Row], samples: Sequence[np.ndarray]) -> List[Difference]:
    """Compare every row with its baseline.

    Args:
        study (Study): Its ``baseline`` and ``value``.
        rows (list[Row]): The rows.
        samples (list[np.ndarray]): For each row, the metric on resampled
            images, in percent.
    """
    key = metric_key(rows, study.value)
    places = {id(row): i for i, row in enumerate(rows)}
    found = []
    for i, row in enumerate(rows):
        value, reach = percent(row, key), interval(samples[i])
        base = _find_baseline(study, row, rows, key)
        if base is None:
            found.append(Difference(row, value, reach))
        else:
            paired = samples[i] - samples[places[id(base)]]
            found.append(
                Difference(row, value, reach, base, value - percent(base, key), interval(paired))
            )
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
    header = ['Row', f'{study.value} [95%]', 'Compared with', 'Difference [95%]', 'Verdict']
    rows = [item.row for item in found]
    cells = []
    for item in found:
        low, high = item.range
        cell = [_name(study, item.row, rows), f'{item.value:.2f} [{low:.2f}, {high:.2f}]']
        if item.baseline is None:
            cells.append([*cell, '-', '-', '-'])
        else:
            low, high = item.difference_range
            cells.append(
                [
                    *cell,
                    _name(study, item.baseline, rows),
                    f'{item.difference:+.2f} [{low:+.2f}, {high:+.2f}]',
                    item.verdict,
                ]
            )
    return header, cells


def _samples(study: Study, rows: List[Row], runs: Dict[str, Run]) -> Optional[List[np.ndarray]]:
    key = metric_key(rows, study.value)
    if key.split('/')[-1] not in ('AP', 'PCK', 'PCKh', 'PCK@0.1'):
        return None
    in_percent = 'PCK@0.1' in rows[0].metrics
    return [
        bootstrap(row, runs[row.config], key) * (1 if in_percent else 100)
        for row in track(rows, 'resample images')
    ]


def _disagreeing(study: Study, rows: List[Row], key: str) -> Optional[Tuple[Row, Row]]:
    """The two rows whose pictures are shown: those that the study names, or
    the best and the worst."""
    if study.disagree:
        pair = []
        for wanted in study.disagree:
            wanted = dict(decoder=wanted) if isinstance(wanted, str) else wanted
            pair += [
                row for row in rows if all(row.factors.get(k) == v for k, v in wanted.items())
            ][:1]
    else:
        order = sorted(rows, key=lambda row: row.metrics[key])
        pair = [order[0], order[-1]]
    return tuple(pair) if len(pair) == 2 and pair[0] is not pair[1] else None


def write_report(study: Study, runs: Sequence[Run], rows: List[Row], folder: Path) -> List[Path]:
    """Write everything that a study shows.

    Args:
        study (Study): The study.
        runs (list[Run]): Its models.
        rows (list[Row]): Its results.
        folder (Path): Gets ``index.html``, a self-contained page, and its
            parts: ``table.*`` (the model zoo's form), ``study.md`` (the
            paper's form), ``differences.md``, ``plot.*``, ``samples.png``
            and ``disagreement.png``.

    Returns:
        list[Path]: The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = replace(study, value=study.value or main_metric(rows))
    key = metric_key(rows, study.value)
    by_name = {run.name: run for run in runs}
    paths = write_tables(rows, folder)
    samples = _samples(study, rows, by_name)
    tables = dict(study=study_table(study, rows))
    if samples is not None:
        tables['differences'] = difference_table(study, differences(study, rows, samples))
    for name, table in tables.items():
        paths.append(folder / f'{name}.md')
        with whole_file(paths[-1]) as unfinished:
            unfinished.write_text(markdown_table(*table) + '\n')
    paths.append(plot_study(study, rows, samples, folder / 'plot.png'))
    images = [
        plot_study(study, rows, samples, folder / 'plot.svg'),
        plot_samples(rows, runs, key, folder / 'samples.png'),
    ]
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
            tables={**tables, 'all': flat_table(rows)},
            images={path.stem: _embed(path) for path in images},
            compared=names,
            command=' '.join(map(shlex.quote, ['python', *sys.argv])),
            date=date.today().isoformat(),
            machine=_machine(),
            version=__version__,
            repeats=REPEATS,
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
