# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Tables as pandas frames of text, and the three ways to draw one."""

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Union

import pandas as pd
from rich.console import Console
from rich.text import Text

from ....utils.files import whole_file
from ...metrics import goodness, lower_is_better, with_unit
from ..rows import COSTS, Row, main_metric, metric_key, shown_metrics, unit_factor
from ..study import Study
from .differences import Difference, name_of


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        texts (list[str]): Its cells.
        best (list[bool]): Which of them are marked as the best.
    """

    texts: Sequence[str]
    best: Sequence[bool]


class Table(NamedTuple):
    """A table.

    Attributes:
        cells (pd.DataFrame): Text.
        best (pd.DataFrame): Which cells are the best of their column or line, of the same shape.
    """

    cells: pd.DataFrame
    best: pd.DataFrame

    @classmethod
    def of(cls, names: Sequence[str], columns: Sequence[Union[Column, Sequence[str]]]) -> 'Table':
        """Of columns, or of the texts of those in which nothing is the best."""
        columns = [c if isinstance(c, Column) else Column(c, [False] * len(c)) for c in columns]
        cells, best = (pd.DataFrame(list(zip(*parts)), columns=names) for parts in zip(*columns))
        return cls(cells, best)

    def markdown(self) -> str:
        """As GitHub draws it, the best in bold."""
        cells = self.cells.apply(lambda column: column.str.replace('|', '\\|', regex=False))
        cells = cells.where(~self.best.to_numpy(), '**' + cells + '**')
        columns = [name.replace('|', '\\|') for name in cells]
        return cells.to_markdown(
            index=False,
            headers=columns,
            tablefmt='github',
            disable_numparse=True,
            colalign=['left'] * len(columns),
        )

    def write(self, path: Path) -> Path:
        """As Markdown or CSV, by the suffix."""
        text = self.cells.to_csv(index=False) if path.suffix == '.csv' else self.markdown() + '\n'
        with whole_file(path) as unfinished:
            unfinished.write_text(text, encoding='utf-8')
        return path

    def lines(self) -> List[list]:
        """Pairs of text and whether it is the best, line by line, for the page."""
        return [
            list(zip(cells, best))
            for cells, best in zip(self.cells.to_numpy(), self.best.to_numpy())
        ]


def mark_best(values: Sequence[Optional[float]]) -> List[bool]:
    """Which are the highest, where they differ."""
    there = {value for value in values if value is not None}
    best = max(there) if len(there) > 1 else None
    return [value is not None and value == best for value in values]


def metric_column(
    rows: Sequence[Optional[Row]], key: str, in_percent: bool, marked: bool
) -> Column:
    """A metric, by MMPose's name, with its spread between several trainings; a dash where there is
    none, which COCO says by -1. Errors are in their unit, other metrics ``in_percent`` as in papers
    or as MMPose prints them. The best are marked where that is wanted."""
    texts, values = [], []
    for row in rows:
        value = row and row.metrics.get(key)
        if value in (None, -1):
            texts.append('-')
            values.append(None)
            continue
        factor = unit_factor(row, key) if in_percent or lower_is_better(key) else 1.0
        numbers = [value] if row.spread(key) is None else [value, row.spread(key)]
        texts.append(' ± '.join(f'{factor * n:.{2 if in_percent else 3}f}' for n in numbers))
        values.append(goodness(value, key))
    return Column(texts, mark_best(values) if marked else [False] * len(texts))


def are_comparable(rows: Sequence[Row]) -> bool:
    """Whether all rows have the same test data."""
    return len({row.test_data for row in rows}) == 1


def flat_table(rows: Sequence[Row]) -> Table:
    """The model zoo's: a line for each row with all metrics, as MMPose prints them, errors in
    their unit."""
    columns = {
        'Config': [row.config for row in rows],
        'Scheme': [row.scheme for row in rows],
        'Decoder': [row.decoder for row in rows],
        'Input size': [row.size_text for row in rows],
        'Boxes': [row.boxes for row in rows],
        'Params (M)': [f'{row.params:.2f}' for row in rows],
        'GFLOPs (paper)': [f'{row.paper_gflops:.2f}' for row in rows],
        'GFLOPs (true)': [f'{row.gflops:.2f}' for row in rows],
        'Forward (ms)': [f'{row.forward_ms:.2f}' for row in rows],
        'Decode (ms)': [f'{row.decode_ms:.3f}' for row in rows],
    }
    metrics = shown_metrics(rows)
    found = [metric_column(rows, key, in_percent=False, marked=False) for key in metrics]
    return Table.of([*columns, *map(with_unit, metrics.values())], [*columns.values(), *found])


def write_tables(rows: Sequence[Row], folder: Path) -> List[Path]:
    """Write :func:`flat_table` as ``table.md`` and ``table.csv``, and the rows as ``table.json``.

    Returns:
        list[Path]: The files.
    """
    table = flat_table(rows)
    paths = [table.write(folder / f'table.{suffix}') for suffix in ('md', 'csv')]
    paths.append(folder / 'table.json')
    with whole_file(paths[-1]) as unfinished:
        unfinished.write_text(json.dumps([asdict(row) for row in rows], indent=1) + '\n')
    return paths


def study_table(study: Study, rows: Sequence[Row]) -> Table:
    """The paper's form: metrics in percent or pixels, the best of each column bold where all rows
    have the same test data.

    Args:
        study (Study): Its ``rows`` and ``columns``.
        rows (list[Row]): The rows.
    """

    def column(rows_of_it: Sequence[Optional[Row]], name: str) -> Union[Column, List[str]]:
        if name in COSTS:
            return ['-' if row is None else COSTS[name](row) for row in rows_of_it]
        key = metric_key(rows, name)
        return metric_column(rows_of_it, key, in_percent=True, marked=are_comparable(rows))

    heads = [
        tuple(study.label(factor, row.factors.get(factor)) for factor in study.rows) for row in rows
    ]
    if isinstance(study.columns, str):  # a line for all values of a factor
        value = study.value or main_metric(rows)
        values = [study.label(study.columns, row.factors.get(study.columns)) for row in rows]
        found = dict(zip(zip(heads, values), rows))
        heads, names = list(dict.fromkeys(heads)), list(dict.fromkeys(values))
        columns = [column([found.get((head, name)) for head in heads], value) for name in names]
    else:
        wanted = study.columns or shown_metrics(rows).values()
        names = [with_unit(name) for name in wanted]
        columns = [column(rows, name) for name in wanted]
    return Table.of([*map(study.title_of, study.rows), *names], [*zip(*heads), *columns])


def difference_table(study: Study, found: Sequence[Difference]) -> Table:
    """Every row with its interval, and against its baseline."""
    columns = (
        'Row',
        f'{with_unit(study.value)} [95%]',
        'Compared with',
        'Difference [95%]',
        'p (Holm)',
        'Verdict',
    )
    rows, lines = [item.row for item in found], []
    for item in found:
        low, high = item.range
        line = [name_of(study, item.row, rows), f'{item.value:.2f} [{low:.2f}, {high:.2f}]']
        if item.baseline is None:
            line += ['-'] * 4
        else:
            low, high = item.difference_range
            line += [
                name_of(study, item.baseline, rows),
                f'{item.difference:+.2f} [{low:+.2f}, {high:+.2f}]',
                '< 0.001' if item.p_value < 0.001 else f'{item.p_value:.3f}',
                item.verdict,
            ]
        lines.append(line)
    return Table.of(columns, [*zip(*lines)])


def print_table(rows: Sequence[Row], console: Console, value: Optional[str] = None) -> None:
    """Print the rows, those of COCO in 80 columns: a line for each decoder, under two for its
    model. The best value of each metric is green where all rows have the same test data. Of
    several trainings the metric ``value`` (by default the main one) alone has room."""
    metrics = shown_metrics(rows)
    if any(len(row.trainings) > 1 for row in rows):
        name = value or main_metric(rows)
        metrics = {metric_key(rows, name): name}
    table = Table.of(
        ['decoder', 'decode ms', *map(with_unit, metrics.values())],
        [
            [f'  {row.decoder}' for row in rows],
            [f'{row.decode_ms:.3f}' for row in rows],
            *(metric_column(rows, key, False, are_comparable(rows)) for key in metrics),
        ],
    )
    widths = [max(map(len, [name, *texts])) for name, texts in table.cells.items()]

    def show(texts: Sequence[str], styles: Sequence[str]) -> None:
        places = [str.ljust, *[str.rjust] * (len(widths) - 1)]
        cells = [place(text, width) for place, text, width in zip(places, texts, widths)]
        # no markup: names may hold brackets
        console.print(Text(' ').join(map(Text, cells, styles)), soft_wrap=True)

    show(table.cells.columns, ['bold'] * len(widths))
    for _, group in groupby(zip(rows, table.lines()), key=lambda item: item[0].config):
        group = list(group)
        row = group[0][0]
        console.print(Text(f'\n{row.config}', 'bold cyan'), soft_wrap=True)
        about = (
            f'{row.scheme}; {row.size_text}; {row.params:.2f} M; GFLOPs {row.paper_gflops:.2f} '
            f'(paper) {row.gflops:.2f} (true); forward {row.forward_ms:.1f} ms; boxes: {row.boxes}'
        )
        console.print(Text(about, 'dim'), soft_wrap=True)
        for _, line in group:
            texts, best = zip(*line)
            show(texts, ['bold green' if is_best else '' for is_best in best])
