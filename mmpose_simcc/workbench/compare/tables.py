# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Rows as Markdown, CSV, JSON and on the terminal."""

import csv
import json
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
from rich.console import Console
from tabulate import tabulate

from ...utils.files import whole_file
from ..metrics import RELIABILITY, UNITS, goodness, lower_is_better, short_name, title
from .errors import CompareError

# MMPose's names of COCO's metrics and the papers'
COCO_METRICS = {
    'coco/AP': 'AP',
    'coco/AP .5': 'AP50',
    'coco/AP .75': 'AP75',
    'coco/AP (M)': 'AP(M)',
    'coco/AP (L)': 'AP(L)',
    'coco/AR': 'AR',
}


# the first of these that there is tells the best row
MAIN_METRICS = ('AP', 'PCK', 'PCKh', 'tPCK', 'NME', 'EPE', 'AUC')


@dataclass
class Training:
    """What one training of a run gives with one decoder.

    Attributes:
        checkpoint (str): The weights.
        predictions (str): Path of the predictions without suffix.
        metrics (dict): Values by MMPose's names.
        calibrated_on (str, optional): The pictures on which the decoder's
            scores were calibrated.
    """

    checkpoint: str
    predictions: str
    metrics: Dict[str, float]
    calibrated_on: Optional[str] = None


@dataclass
class Row:
    """One decoder of one run.

    Attributes:
        config (str): Name of the run.
        scheme (str): Representation in words.
        decoder (str): Name of the decoder.
        input_size (tuple): Width and height in pixels.
        params (float): Millions of parameters.
        paper_gflops (float): GFLOPs as the papers count them.
        gflops (float): 10**9 multiply-adds that are really done.
        forward_ms (float): Median time of one image through the network.
        decode_ms (float): Median time of decoding one image.
        trainings (list[Training]): One for each seed.
        boxes (str): By which people are cut out.
        test_data (str): Equal for rows that are tested on the same data.
        factors (dict): What a study varies.
        metrics (dict): Means over the trainings by MMPose's names; what not
            all of them have is left out.
    """

    config: str
    scheme: str
    decoder: str
    input_size: Tuple[int, int]
    params: float
    paper_gflops: float
    gflops: float
    forward_ms: float
    decode_ms: float
    trainings: List[Training]
    boxes: str = 'annotated'
    test_data: str = ''
    factors: Dict[str, Any] = field(default_factory=dict)
    metrics: Dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = {
            key: float(np.mean([training.metrics[key] for training in self.trainings]))
            for key in self.trainings[0].metrics
            if all(key in training.metrics for training in self.trainings)
        }

    def spread(self, key: str) -> Optional[float]:
        """Standard deviation of a metric between trainings; None of one."""
        if len(self.trainings) == 1:
            return None
        return float(np.std([training.metrics[key] for training in self.trainings], ddof=1))

    @property
    def size_text(self) -> str:
        """Height x width, as in the names of configs."""
        return '{1}x{0}'.format(*self.input_size)


def shown_metrics(rows: List[Row]) -> Dict[str, str]:
    """The metrics that tables show: their keys and short names."""
    return _shown(key for row in rows for key in row.metrics)


def _shown(keys: Iterable[str]) -> Dict[str, str]:
    found = dict.fromkeys(keys)
    shown = {key: name for key, name in COCO_METRICS.items() if key in found}
    shown.update({key: short_name(key) for key in found if not key.startswith('coco/')})
    return shown


def _number(value: Optional[float], digits: int) -> str:
    # -1 is COCO's "there are none"
    return '-' if value is None or value == -1 else f'{value:.{digits}f}'


def _metric_cell(row: Row, key: str) -> str:
    """As MMPose prints it, but errors in their unit; with the spread between
    trainings."""
    factor = unit_factor(row, key) if lower_is_better(key) else 1.0
    return _mean_and_spread(row, key, factor, 3)


def _mean_and_spread(row: Row, key: str, factor: float, digits: int) -> str:
    value = row.metrics.get(key)
    if value in (None, -1) or len(row.trainings) == 1:
        return _number(value if value in (None, -1) else factor * value, digits)
    return f'{factor * value:.{digits}f} ± {factor * row.spread(key):.{digits}f}'


def flat_table(rows: List[Row]) -> Tuple[List[str], List[List[str]]]:
    """Header and cells of the model-zoo table."""
    metrics = shown_metrics(rows)
    header = [
        'Config',
        'Scheme',
        'Decoder',
        'Input size',
        'Boxes',
        'Params (M)',
        'GFLOPs (paper)',
        'GFLOPs (true)',
        'Forward (ms)',
        'Decode (ms)',
        *(title(key) if lower_is_better(key) else name for key, name in metrics.items()),
    ]
    cells = [
        [
            row.config,
            row.scheme,
            row.decoder,
            row.size_text,
            row.boxes,
            _number(row.params, 2),
            _number(row.paper_gflops, 2),
            _number(row.gflops, 2),
            _number(row.forward_ms, 2),
            _number(row.decode_ms, 3),
            *(_metric_cell(row, key) for key in metrics),
        ]
        for row in rows
    ]
    return header, cells


def markdown_table(header: List[str], cells: List[List[str]]) -> str:
    return tabulate(
        cells, header, tablefmt='github', disable_numparse=True, colalign=['left'] * len(header)
    )


def write_tables(rows: List[Row], folder: Path) -> List[Path]:
    """Write ``table.md``, ``table.csv`` and ``table.json``.

    Returns:
        list[Path]: The files.
    """
    header, cells = flat_table(rows)
    paths = [folder / f'table.{suffix}' for suffix in ('md', 'csv', 'json')]
    with whole_file(paths[0]) as unfinished:
        unfinished.write_text(markdown_table(header, cells) + '\n')
    with whole_file(paths[1]) as unfinished, open(unfinished, 'w', newline='') as file:
        csv.writer(file).writerows([header, *cells])
    with whole_file(paths[2]) as unfinished:
        unfinished.write_text(json.dumps([asdict(row) for row in rows], indent=1) + '\n')
    return paths


def main_metric(rows: List[Row]) -> str:
    """The metric that tells the best, by its short name."""
    names = list(shown_metrics(rows).values())
    return next((name for name in MAIN_METRICS if name in names), names[0])


def metric_key(rows: List[Row], name: Optional[str] = None) -> str:
    """MMPose's name of a metric, by default of the main one.

    Raises:
        CompareError: The rows have no such metric.
    """
    return find_key(name or main_metric(rows), (key for row in rows for key in row.metrics))


def find_key(name: str, keys: Iterable[str]) -> str:
    """MMPose's name of a metric among those that there are, from its short name.

    Raises:
        CompareError: There is no such metric.
    """
    names = {short: key for key, short in _shown(keys).items()}
    if name not in names:
        raise CompareError(f'there is no metric {name}; there are {", ".join(names)}')
    return names[name]


def unit_factor(row: Row, key: str) -> float:
    """What turns a metric into percent, as papers give it, or pixels."""
    # MPII's metric is
    in_percent = 'PCK@0.1' in row.metrics and key not in RELIABILITY
    return 1.0 if in_percent or short_name(key) == 'EPE' else 100.0


def shown_value(row: Row, key: str) -> Optional[float]:
    """A metric in percent, EPE in pixels."""
    value = row.metrics.get(key)
    return value if value in (None, -1) else unit_factor(row, key) * value


def best_row(rows: Sequence[Row], key: str) -> Row:
    """The best of rows that have a metric."""
    return max(rows, key=lambda row: goodness(row.metrics[key], key))


def _metric_column(column: Sequence[Optional[Row]], key: str, comparable: bool) -> List[str]:
    """A metric of rows in percent or pixels, the best one bold."""
    values = [row and row.metrics.get(key) for row in column]
    there = {value for value in values if value not in (None, -1)}
    best = max(there, key=lambda value: goodness(value, key), default=None)
    texts = []
    for row, value in zip(column, values):
        text = '-' if value is None else _mean_and_spread(row, key, unit_factor(row, key), 2)
        texts.append(f'**{text}**' if comparable and len(there) > 1 and value == best else text)
    return texts


COSTS = {
    '#Params': lambda row: f'{row.params:.1f}M',
    'GFLOPs': lambda row: f'{row.paper_gflops:.2f}',
}


def study_table(study, rows: List[Row]) -> Tuple[List[str], List[List[str]]]:
    """The table in the paper's form: metrics in percent or pixels, the best
    of each column bold where all rows have the same test data.

    Args:
        study (Study): Its ``rows`` and ``columns``.
        rows (list[Row]): The rows.

    Returns:
        tuple: Header and cells.
    """
    groups = {}
    for row in rows:
        labels = tuple(study.label(factor, row.factors.get(factor)) for factor in study.rows)
        groups.setdefault(labels, []).append(row)
    if isinstance(study.columns, str):
        names = list(
            dict.fromkeys(
                study.label(study.columns, row.factors.get(study.columns)) for row in rows
            )
        )
        shown = [study.value or main_metric(rows)] * len(names)
        grid = [
            [
                next(
                    (
                        row
                        for row in group
                        if study.label(study.columns, row.factors.get(study.columns)) == name
                    ),
                    None,
                )
                for name in names
            ]
            for group in groups.values()
        ]
    else:
        names = shown = study.columns or list(shown_metrics(rows).values())
        grid = [[group[0]] * len(names) for group in groups.values()]
    header = [study.title_of(factor) for factor in study.rows] + [
        title(name) if name in UNITS else name for name in names
    ]
    cells = [[*labels] for labels in groups]
    comparable = len({row.test_data for row in rows}) == 1
    for name, column in zip(shown, zip(*grid)):
        if name in COSTS:
            texts = [COSTS[name](row) for row in column]
        else:
            texts = _metric_column(column, metric_key(rows, name), comparable)
        for line, text in zip(cells, texts):
            line.append(text)
    return header, cells


def print_table(rows: List[Row], console: Console, value: Optional[str] = None) -> None:
    """Print the rows, those of COCO in 80 columns: a line for each decoder,
    under two for its model. The best value of each metric is marked where all rows
    have the same test data. Of several trainings the metric ``value`` (by
    default the main one) alone has room."""
    metrics = shown_metrics(rows)
    if any(len(row.trainings) > 1 for row in rows):
        name = value or main_metric(rows)
        metrics = {metric_key(rows, name): name}
    best = {}
    if len({row.test_data for row in rows}) == 1:
        best = {
            key: best_row([row for row in rows if key in row.metrics], key).metrics[key]
            for key in metrics
        }
    names = {key: title(key) if lower_is_better(key) else name for key, name in metrics.items()}
    width = max(len(row.decoder) for row in rows) + 2
    widths = [
        max(len(name), *(len(_metric_cell(row, key)) for row in rows)) + 1
        for key, name in names.items()
    ]
    console.print(
        f'[bold]{"decoder":{width}}{"decode ms":>10}'
        + ''.join(f'{name:>{size}}' for name, size in zip(names.values(), widths)),
        highlight=False,
        soft_wrap=True,
    )
    for _, group in groupby(rows, key=lambda row: row.config):
        group = list(group)
        row = group[0]
        console.print(f'\n[bold cyan]{row.config}[/]', highlight=False)
        console.print(
            f'[dim]{row.scheme}; {row.size_text}; {row.params:.2f} M; GFLOPs '
            f'{row.paper_gflops:.2f} (paper) {row.gflops:.2f} (true); forward '
            f'{row.forward_ms:.1f} ms; boxes: {row.boxes}[/]',
            highlight=False,
            soft_wrap=True,
        )
        for row in group:
            line = f'  {row.decoder:{width - 2}}{_number(row.decode_ms, 3):>10}'
            for key, size in zip(metrics, widths):
                text = f'{_metric_cell(row, key):>{size}}'
                is_best = key in best and row.metrics.get(key) == best[key]
                line += f'[bold green]{text}[/]' if is_best else text
            console.print(line, highlight=False, soft_wrap=True)
