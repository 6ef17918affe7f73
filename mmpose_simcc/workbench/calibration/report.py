# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Tables of what a calibration found."""

from typing import Dict, Iterator, List, Tuple

import numpy as np
from scipy.stats import norm

from ...codecs.calibration import LEVELS
from ..tables import markdown_table
from .calibrate import Calibrated
from .ladder import Trial
from .steps import Step

PROBABILITIES = [f'{level:g}' for level in LEVELS]


def tables(found: Calibrated) -> Iterator[str]:
    """In Markdown a table of each step, of the config's metrics and of the coverage."""
    for step, trials in found.tried:
        yield step_table(step, trials)
    yield _metrics_table(found.metrics)
    yield coverage_table(found.content['coverage'])


def _metrics_table(metrics: Dict[str, Dict[str, float]]) -> str:
    names = list(metrics['as it is'])
    rows = [[title, *(f'{v:.4f}' for v in values.values())] for title, values in metrics.items()]
    return "the config's metrics on the held-out half, after each step:\n" + markdown_table(
        rows, ['step', *names]
    )


def coverage_table(coverage: List[dict]) -> str:
    """How often radii hold the truth, in Markdown."""
    rows = []
    for row in coverage:
        shares = [f'{100 * row[p]:.1f} ± {100 * row[f"± {p}"]:.1f}' for p in PROBABILITIES]
        rows.append([row['group'], row['keypoints'], *shares])
    table = markdown_table(rows, ['group', 'keypoints', *PROBABILITIES])
    off = []
    for p in PROBABILITIES:
        of_each = [row for row in coverage if row['group'].startswith('keypoint')]
        found = np.sqrt(np.mean([(row[p] - float(p)) ** 2 for row in of_each]))
        expected = np.sqrt(np.mean([row[f'± {p}'] ** 2 for row in of_each])) / norm.isf(0.025)
        off.append(f'{100 * found:.1f} points for {p} where sampling gives {100 * expected:.1f}')
    return (
        'coverage of the radii in percent, on pictures that nothing was fitted on; ± is the 95% '
        f'interval that the sampling of both halves gives:\n{table}\n'
        f'keypoints are off by (root mean square) {", ".join(off)}'
    )


def step_table(step: Step, trials: List[Trial]) -> str:
    """What was tried in a step, in Markdown."""
    rows = []
    for trial in trials:
        gain = [str(trial.gain), 'yes' if trial.supported else 'no']
        if trial is trials[0]:  # which the others are compared with
            gain = ['', '']
        kept = '<-' if trial.chosen else ''
        fitted = step.describe(trial.decoding)
        rows.append([trial.name, f'{trial.loss:.4f}', *gain, kept, fitted])
    header = [step.title, f'loss ({step.unit})', 'gain [95%]', 'supported', 'kept', 'fitted']
    return markdown_table(rows, header)


def summary(found: Calibrated) -> List[Tuple[str, str]]:
    """What was kept of each step, and what that gained."""
    lines = []
    for step, trials in found.tried:
        kept = next(trial for trial in trials if trial.chosen)
        gain = '' if kept is trials[0] else f': {kept.gain} in {step.unit}'
        lines.append((step.title, f'{kept.name}{gain}'))
    return lines
