# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Writes a study: tables, plots, pictures, and one page with all of them."""

import base64
import os
import platform
import re
import shlex
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Dict, List, Sequence

import torch
from jinja2 import Environment, FileSystemLoader

from ....utils.files import whole_file
from ....version import __version__
from ...metrics import RELIABILITY, goodness, short_name, with_unit
from ...scoring import find_similarity
from ...statistics import REPEATS
from ..bootstrap import resampled_values
from ..rows import Row, main_metric, metric_key
from ..runs import Run
from ..study import Study, check_metric_names
from .differences import differences, measure_rows, name_of
from .keypoints import keypoint_tables, write_keypoints
from .pictures import load_people, plot_disagreement, plot_samples
from .plots import plot_scores, plot_study, save
from .tables import difference_table, flat_table, study_table, write_tables


def remarks(study: Study, runs: Sequence[Run]) -> List[str]:
    """What a reader has to know of the data and metrics of a study, a line each. It can be said
    before anything is computed.

    Args:
        study (Study): The study.
        runs (list[Run]): Its models.

    Raises:
        CompareError: Data are not there, metrics cannot be built, or there is none of a name.
    """
    for run in runs:
        run.check_data('test')
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
        metrics = run.build_metrics()
        names = [short_name(key) for key in resampled_values(metrics)]
        if find_similarity(metrics):
            names += RELIABILITY
        if not names or short_name(study.value or names[0]) not in names:
            kinds = ', '.join(type(metric).__name__ for metric in metrics)
            lines.append(f'{run.name}: {study.value or kinds} has no intervals and no verdicts')
    return lines


def write_report(study: Study, runs: Sequence[Run], rows: List[Row], folder: Path) -> List[Path]:
    """Write everything that a study shows.

    Args:
        study (Study): The study.
        runs (list[Run]): Its models.
        rows (list[Row]): Its results.
        folder (Path): Gets ``index.html``, a self-contained page, and its parts: ``table.*`` (the
            model zoo's form), ``study.md`` (the paper's form), ``differences.md``,
            ``keypoints.csv``, ``plot.*``, ``samples.png``, ``scores.png`` and
            ``disagreement.png``.

    Returns:
        list[Path]: The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = replace(study, value=study.value or main_metric(rows))
    key = metric_key(rows, study.value)
    by_name = {run.name: run for run in runs}
    tables = dict(all=flat_table(rows), study=study_table(study, rows))
    paths = write_tables(rows, folder)

    rows = [row for row in rows if key in row.metrics]
    measured = measure_rows(rows, by_name, key)
    ranges = None
    if measured:
        found = differences(study, rows, measured)
        ranges = [item.range for item in found]
        tables['differences'] = difference_table(study, found)
    first_runs = {row.test_data: by_name[row.config] for row in rows[::-1]}
    people = {data: load_people(run) for data, run in first_runs.items()}  # COCO's take seconds
    data = rows[0].test_data  # that of the tables of keypoints and of the disagreements
    of_data = [row for row in rows if row.test_data == data]
    keypoints = {}
    if not any(row.has_detected_boxes for row in of_data):
        names = [name_of(study, row, of_data) for row in of_data]
        keypoints = keypoint_tables(of_data, names, people[data])

    plot = plot_study(study, rows, ranges)
    figures = dict(samples=plot_samples(rows, key, people))
    if any('ECE' in row.metrics for row in rows):
        figures['scores'] = plot_scores(rows, by_name)
    pair = choose_pair(study, of_data, key)
    compared = [name_of(study, row, rows) for row in pair]
    if pair:
        figures['disagreement'] = plot_disagreement(pair, compared, people[data])

    paths += [
        *(tables[name].write(folder / f'{name}.md') for name in tables if name != 'all'),
        *write_keypoints(keypoints, folder),
        save(plot, folder / 'plot.png'),
    ]
    images = [save(plot, folder / 'plot.svg')]
    images += [save(figure, folder / f'{name}.png') for name, figure in figures.items()]
    trained_once = sorted({row.config for row in rows if len(row.trainings) == 1})
    text = (
        Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
        .get_template('page.html')
        .render(
            study=study,
            tables=tables,
            keypoints=keypoints,
            remarks=remarks(study, runs),
            boxes=sorted({run.boxes for run in runs}),
            metric=with_unit(study.value),
            images={path.stem: _embed(path) for path in images},
            compared=compared,
            command=' '.join(map(shlex.quote, ['python', *sys.argv])),
            date=date.today().isoformat(),
            machine=_machine(),
            version=__version__,
            repeats=REPEATS,
            is_bound=bool(measured) and measured[0].is_bound,
            trained_once=trained_once,
            seeds=max(len(row.trainings) for row in rows),
        )
    )
    page = folder / 'index.html'
    with whole_file(page) as unfinished:
        unfinished.write_text(text, encoding='utf-8')
    return [page, *paths, *images]


def choose_pair(study: Study, rows: Sequence[Row], key: str) -> List[Row]:
    """The two of the rows of some test data whose disagreements are shown: those that the study
    names, or the best and the worst. Empty where they are one."""
    order = sorted(rows, key=lambda row: goodness(row.metrics[key], key))
    pair = [order[0], order[-1]]
    if study.disagree:
        pair = [row for wanted in study.pair for row in [r for r in rows if r.has(wanted)][:1]]
    return pair if len(pair) == 2 and pair[0] is not pair[1] else []


def _embed(path: Path) -> str:
    kind = 'svg+xml' if path.suffix == '.svg' else 'png'
    content = base64.b64encode(path.read_bytes()).decode()
    return f'data:image/{kind};base64,{content}'


def _machine() -> str:
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        info = Path('/proc/cpuinfo')
        found = info.is_file() and re.search(
            r'model name\s*: (.+)', info.read_text(encoding='utf-8')
        )
        name = found[1] if found else platform.processor() or platform.machine()
        device = f'{name}, {os.cpu_count()} cores'
    return f'{device}; torch {torch.__version__}'
