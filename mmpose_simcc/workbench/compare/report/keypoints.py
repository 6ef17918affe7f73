# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Each keypoint by itself."""

from pathlib import Path
from typing import Callable, Dict, List, Sequence

import numpy as np
import pandas as pd

from ....utils.files import whole_file
from ..rows import Row
from .pictures import AnnotatedPeople, StoredPredictions
from .tables import Table, mark_best

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
        MEDIAN: _table(errors, names, people, np.median, lowest=True),
        NINETY: _table(errors, names, people, lambda v: np.percentile(v, 90), lowest=True),
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
    measure: Callable[[np.ndarray], float],
    lowest: bool = False,
) -> Table:
    """Of arrays (N, K), one for each row."""
    lines: List[list] = []
    best: List[list] = []
    keypoints = [*range(arrays[0].shape[1]), slice(None)]
    for keypoint in keypoints:
        values = [array[:, keypoint] for array in arrays]
        counts = [np.count_nonzero(~np.isnan(v)) for v in values]
        shown = [measure(v[~np.isnan(v)]) if n else None for v, n in zip(values, counts)]
        name = 'all' if keypoint == slice(None) else people.names[keypoint].replace('_', ' ')
        texts = ['-' if value is None else f'{value:.2f}' for value in shown]
        lines.append([name, str(counts[0]), *texts])
        signed = [None if v is None else (-v if lowest else v) for v in shown]
        best.append([False, False, *mark_best(signed)])
    return Table.of(['Keypoint', 'Number', *names], lines, best)
