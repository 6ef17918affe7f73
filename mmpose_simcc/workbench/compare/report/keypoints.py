# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Each keypoint by itself."""

from pathlib import Path
from typing import Callable, Dict, List, Sequence, Union

import numpy as np
import pandas as pd

from ....utils.files import whole_file
from ..rows import Row
from .pictures import AnnotatedPeople, StoredPredictions
from .tables import Column, Table, mark_best

MEDIAN = 'Median error (px)'
NINETY = '90% of errors below (px)'
SIMILARITY = 'Mean similarity (%)'


def keypoint_errors(row: Row, people: AnnotatedPeople) -> np.ndarray:
    """Distances from the truth in image pixels, of all trainings, shape (trainings * N, K); NaN
    where a keypoint is not labelled."""
    found = []
    for training in range(len(row.trainings)):
        predictions = StoredPredictions(row, training)
        for person in people.people:
            keypoints = predictions.of(person)
            if keypoints is not None:  # one that the evaluation left out
                distance = np.linalg.norm(keypoints - person.keypoints, axis=-1)
                found.append(np.where(person.labelled, distance, np.nan))
    return np.array(found)


def keypoint_tables(
    rows: Sequence[Row], names: Sequence[str], people: AnnotatedPeople
) -> Dict[str, Table]:
    """A line for each keypoint and one for all, a column for each row, the best of a line bold.
    Rows of the same keypoints, which differ in their scores alone, share the first one's.

    Args:
        rows (list[Row]): Rows of the same test data with annotated boxes.
        names (list[str]): What to call the rows.
        people (AnnotatedPeople): The test data.

    Returns:
        dict: By title, the tables of the median error, of the error that 90% do not exceed, and,
        where the metric has one, of the mean similarity by which scores are judged.
    """
    errors, shown = [], []
    for row, name in zip(rows, names):
        own = keypoint_errors(row, people)
        if not any(np.array_equal(own, other, equal_nan=True) for other in errors):
            errors.append(own)
            shown.append((row, name))
    rows, names = zip(*shown)
    found = {
        MEDIAN: _table(errors, names, people, lambda v: v.median(), lowest=True),
        NINETY: _table(errors, names, people, lambda v: v.quantile(0.9), lowest=True),
    }
    if all('ECE' in row.metrics for row in rows):  # which comes from it
        similarities = [
            np.concatenate([training.load('similarity')[0] for training in row.trainings])
            for row in rows
        ]
        found[SIMILARITY] = _table(similarities, names, people, lambda v: 100 * v.mean())
    return found


def write_keypoints(tables: Dict[str, Table], folder: Path) -> List[Path]:
    """Write ``keypoints.csv``, a line for each table and keypoint, where there are tables."""
    if not tables:
        return []
    path = folder / 'keypoints.csv'
    frames = {name: table.cells for name, table in tables.items()}
    with whole_file(path) as unfinished:
        pd.concat(frames, names=['Measure', None]).droplevel(1).to_csv(unfinished)
    return [path]


def _table(
    arrays: Sequence[np.ndarray],
    names: Sequence[str],
    people: AnnotatedPeople,
    measure: Callable[[Union[pd.DataFrame, pd.Series]], Union[pd.Series, float]],
    lowest: bool = False,
) -> Table:
    """Of arrays (N, K), one for each row; the last line is of all keypoints."""
    frames = [pd.DataFrame(array) for array in arrays]
    values = np.array([[*measure(f), measure(pd.Series(f.to_numpy().ravel()))] for f in frames])
    signed = np.where(np.isnan(values), None, -values if lowest else values)
    best = [mark_best(line) for line in signed.T]
    columns = [
        Column(['-' if np.isnan(v) else f'{v:.2f}' for v in of_row], marks)
        for of_row, marks in zip(values, zip(*best))
    ]
    counts = frames[0].count()
    keypoints = [people.names[i].replace('_', ' ') for i in range(len(counts))]
    numbers = [str(number) for number in [*counts, counts.sum()]]
    return Table.of(['Keypoint', 'Number', *names], [[*keypoints, 'all'], numbers, *columns])
