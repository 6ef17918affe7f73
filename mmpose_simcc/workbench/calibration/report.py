# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What a calibration found, in tables."""

from typing import Iterator, List, Tuple

from ..tables import markdown_table
from .calibrate import Calibrated
from .ladder import Step, Trial


def tables(found: Calibrated) -> Iterator[str]:
    """A table for each step of the ladder and one of the coverage, in Markdown."""
    for step, trials in found.tried:
        yield _step_table(step, trials)
    if found.coverage:
        rows = [
            [f'{100 * v:.1f}' if isinstance(v, float) else v for v in row.values()]
            for row in found.coverage
        ]
        yield 'coverage of the radii in percent, on pictures that did not decide on them:\n' + (
            markdown_table(rows, [*found.coverage[0]])
        )


def _step_table(step: Step, trials: List[Trial]) -> str:
    first, *others = trials
    rows = [[first.name, f'{first.loss:.4f}', '', '', _kept(first), first.words]]
    for trial in others:
        gain = [str(trial.gain), 'yes' if trial.supported else 'no']
        rows.append([trial.name, f'{trial.loss:.4f}', *gain, _kept(trial), trial.words])
    header = [step.title, f'loss ({step.unit})', 'gain [95%]', 'supported', 'kept', 'fitted']
    return markdown_table(rows, header)


def _kept(trial: Trial) -> str:
    return '<-' if trial.chosen else ''


def summary(found: Calibrated) -> List[Tuple[str, str]]:
    """What is kept of each step, and what that gains."""
    lines = []
    for step, trials in found.tried:
        kept = next(trial for trial in trials if trial.chosen)
        gain = '' if kept is trials[0] else f': {kept.gain} in {step.unit}'
        lines.append((step.title, f'{kept.name}{gain}'))
    return lines
