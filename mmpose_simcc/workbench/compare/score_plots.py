# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What scores are worth, and what a threshold on them does."""

from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Dict, List, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..reliability import BINS, bin_sums, equal_mass_bins, kept, with_truth
from ..scoring import find_similarity
from .evaluation import build_metrics
from .plots import COLORS, save
from .runs import Run
from .tables import Row

FEW = 50  # keypoints, of which no share is drawn


def plot_scores(rows: List[Row], runs: Dict[str, Run], path: Path) -> Path:
    """Plot, for each model, the reliability of its decoders' scores and the keypoints that a
    threshold keeps.

    Args:
        rows (list[Row]): The rows; those without a truth to compare with are left out.
        runs (dict): Their runs by name.
        path (Path): The image.
    """
    groups = [
        (runs[name], list(group))
        for name, group in groupby(
            [row for row in rows if 'ECE' in row.metrics], key=lambda row: row.config
        )
    ]
    figure = Figure(figsize=(5 * len(groups), 8.6), layout='constrained')
    columns = figure.subplots(2, len(groups), sharex='col', squeeze=False).T
    for (run, group), (above, below) in zip(groups, columns):
        calibrated = sorted({t.calibrated_on for row in group for t in row.trainings} - {None})
        lines = [run.name, *(f'calibrated on {name}' for name in calibrated)]
        lines.append(f'judged on {", ".join(file.name for file in run.annotation_files)}')
        above.set_title('\n'.join(fill(line, 70) for line in lines), fontsize=8)
        counts = above.inset_axes([0, 0, 1, 0.18])
        counts.axis('off')
        # a colour for raw and calibrated scores of a decoder, paler for the raw ones
        names = dict.fromkeys(row.decoder.partition(',')[0] for row in group)
        colors = dict(zip(names, COLORS * len(names)))
        for row in group:
            name, _, is_calibrated = row.decoder.partition(',')
            pale = calibrated and not is_calibrated
            style = dict(color=colors[name], alpha=0.4 if pale else 1.0)
            scores, similarity = _keypoints(row)
            _reliability(above, scores, similarity, style)
            counts.hist(scores, 40, histtype='step', **style)
            thresholds, left, right = kept(scores, similarity)
            right[left * len(scores) < FEW] = np.nan
            below.plot(thresholds, left, label=row.decoder, **style)
            below.plot(thresholds, right, ':', **style)
        above.plot([0, 1], [0, 1], '--', color='#888888', linewidth=1, zorder=0)
        counts.set_xlim(above.get_xlim())
        above.set_ylabel(f'mean similarity ({find_similarity(build_metrics(run))})')
        above.set_xlabel(f'score ({BINS} bins of {len(scores) // BINS} keypoints)')
        below.set_xlabel('threshold')
        below.set_ylabel('keypoints kept (solid), right of these (dotted)')
        for axes in (above, below):
            axes.set_ylim(0, 1.02)
            axes.grid(alpha=0.3)
            axes.spines[['top', 'right']].set_visible(False)
        below.legend(frameon=False, fontsize=8)
    return save(figure, path)


def _keypoints(row: Row) -> Tuple[np.ndarray, np.ndarray]:
    """Scores and similarities of the keypoints of all trainings that have a truth."""
    parts = []
    for training in row.trainings:
        with np.load(f'{training.predictions}.npz') as stored:
            scores, similarity, _ = with_truth(stored['scores'], stored['similarity'])
            parts.append([scores, similarity])
    scores, similarity = np.concatenate(parts, 1)
    return scores, similarity


def _reliability(axes: Axes, scores: np.ndarray, similarity: np.ndarray, style: dict) -> None:
    count, *sums = bin_sums(equal_mass_bins(scores), BINS, scores, similarity)
    there = count > 0
    axes.plot(*(values[there] / count[there] for values in sums), 'o-', markersize=3, **style)
