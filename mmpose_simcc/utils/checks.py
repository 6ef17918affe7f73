# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Argument checks whose errors name the argument, the value and what is
allowed."""

import math
from numbers import Integral, Real
from typing import Any, Optional, Sequence, Tuple


def invalid(name: str, value: Any, allowed: str) -> ValueError:
    """The error for an argument: raise what it returns."""
    return ValueError(f'`{name}` must be {allowed}, but got {value!r}')


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise invalid(name, value, f'one of {list(choices)}')
    return value


def check_number(
    name: str,
    value: Any,
    low: Optional[float] = None,
    high: Optional[float] = None,
    above: Optional[float] = None,
    below: Optional[float] = None,
) -> float:
    """A finite number with low <= value <= high and above < value < below."""
    bounds = [(low, '>='), (above, '>'), (high, '<='), (below, '<')]
    allowed = ' and '.join(
        ['a finite number'] + [f'{sign} {bound}' for bound, sign in bounds if bound is not None]
    )
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not math.isfinite(value)
        or (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        raise invalid(name, value, allowed)
    return value


def check_int(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise invalid(name, value, f'an integer >= {low}')
    return int(value)


def check_odd(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1 or value % 2 == 0:
        raise invalid(name, value, 'an odd integer >= 1')
    return int(value)


def check_size(name: str, value: Any) -> Tuple[int, int]:
    """A pair (width, height) of integers >= 1."""
    try:
        width, height = value
        return check_int(name, width, 1), check_int(name, height, 1)
    except (TypeError, ValueError):
        raise invalid(name, value, 'a pair (width, height) of integers >= 1') from None


def check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid(name, value, 'True or False')
    return value
