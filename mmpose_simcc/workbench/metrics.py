# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the values of MMPose's metrics mean."""

from typing import TypeVar

Number = TypeVar('Number')

LOWER_IS_BETTER = ('EPE', 'NME')
# those whose tables name the unit; the others are parts of one
UNITS = dict(EPE='px', NME='%')


def short_name(key: str) -> str:
    """``'AP'`` of ``'coco/AP'``."""
    return key.rpartition('/')[2]


def lower_is_better(key: str) -> bool:
    """Whether a metric, by MMPose's name, is an error."""
    return short_name(key) in LOWER_IS_BETTER


def goodness(value: Number, key: str) -> Number:
    """A metric's value, or an array of them, such that larger is better."""
    return -value if lower_is_better(key) else value


def title(key: str) -> str:
    """A metric's short name, with its unit if it is an error."""
    name = short_name(key)
    return f'{name} ({UNITS[name]})' if name in UNITS else name
