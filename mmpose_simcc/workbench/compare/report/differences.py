# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Rows against the one that they are compared with: intervals and verdicts."""

import math
import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from ....utils.console import track
from ...metrics import lower_is_better
from ...statistics import (
    ERROR_RATE,
    Measured,
    adjust,
    confidence_interval,
    noise_of,
    noise_of_difference,
)
from ..bootstrap import measure
from ..rows import Row, best_row, metric_key, unit_factor
from ..runs import Run
from ..study import Study


@dataclass
class Difference:
    """A row's metric and its difference to a baseline, in percent or pixels, each with its 95%
    interval over test images and trainings.

    Attributes:
        row (Row): The row.
        value (float): Its metric.
        range (tuple): Interval of the metric.
        baseline (Row, optional): What it is compared with; None for the baseline itself.
        difference (float): Metric minus the baseline's.
        difference_range (tuple): Interval of the difference, paired.
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


def measure_rows(rows: Sequence[Row], runs: Dict[str, Run], key: str) -> Optional[List[Measured]]:
    """A metric of each row, in the unit of tables; None where there is no way to compute
    intervals for all."""
    found = []
    for row in track(rows, 'resample images'):
        own = measure(row, runs[row.config], key)
        if own is None:
            return None
        factor = unit_factor(row, key)
        found.append(own._replace(values=factor * own.values, samples=factor * own.samples))
    return found


def differences(
    study: Study, rows: Sequence[Row], measured: Sequence[Measured]
) -> List[Difference]:
    """Compare every row with its baseline.

    A baseline that the study names is compared with each of the others. The best row, found
    afterwards, could have been any: all pairs count then.

    Args:
        study (Study): Its ``baseline`` and ``value``.
        rows (list[Row]): Rows that have the metric.
        measured (list[Measured]): See :func:`measure_rows`.
    """
    key = metric_key(rows, study.value)
    highest = math.inf if lower_is_better(key) else 100.0
    of_row = {id(row): own for row, own in zip(rows, measured)}
    found = []
    for row, own in zip(rows, measured):
        value = float(own.values.mean())
        item = Difference(row, value, confidence_interval(value, noise_of(own), 0.0, highest))
        item.baseline = find_baseline(study, row, rows, key)
        if item.baseline is not None:
            other = of_row[id(item.baseline)]
            noise = noise_of_difference(own, other)
            item.difference = value - float(other.values.mean())
            item.difference_range = confidence_interval(item.difference, noise)
            item.p_value = noise.p_value(item.difference)
            item.lower_is_better = lower_is_better(key)
        found.append(item)
    compared = [item for item in found if item.baseline]
    family = len(compared) if study.baseline else len(rows) * (len(rows) - 1) // 2
    for item, p_value in zip(compared, adjust([item.p_value for item in compared], family)):
        item.p_value = p_value
    return found


def find_baseline(study: Study, row: Row, rows: Sequence[Row], key: str) -> Optional[Row]:
    """The row that a row is compared with, of the same test data and so with the same resamples.
    None for the baseline itself."""
    rows = [other for other in rows if other.test_data == row.test_data]
    found = best_row(rows, key)
    if study.baseline:
        own = {name: row.factors.get(name) for name in factors_of_rows(study, rows)}
        found = next((other for other in rows if other.has({**own, **study.baseline})), None)
    return None if found is row else found


def factors_of_rows(study: Study, rows: Sequence[Row]) -> List[str]:
    """The factors that tell the study's rows apart."""
    factors = [*study.rows, *([study.columns] if isinstance(study.columns, str) else [])]
    varied = [
        name
        for name in factors
        if len({study.label(name, row.factors.get(name)) for row in rows}) > 1
    ]
    return varied or factors


def name_of(study: Study, row: Row, rows: Sequence[Row]) -> str:
    """A row in words."""
    words = []
    for factor in factors_of_rows(study, rows):
        label = study.label(factor, row.factors.get(factor))
        if re.fullmatch(r'-?[\d.]+|yes|no', label, re.IGNORECASE):
            label = f'{study.title_of(factor).lower()} {label}'
        words.append(label)
    return ', '.join(words)
