# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times functions in turns, so that whatever else the machine does meets all of them alike."""

import time
from math import inf
from typing import Any, Callable, Dict, Hashable, Mapping, TypeVar

import numpy as np
import torch

from ..utils.console import track

Key = TypeVar('Key', bound=Hashable)

WARM_UP = 2  # calls of each function that do not count
MIN_ROUNDS = 5  # that are done however long they take


def time_in_turns(
    functions: Mapping[Key, Callable[[], Any]],
    rounds: int,
    block: float = 0.0,
    max_seconds: float = inf,
    clock: Callable[[], float] = time.perf_counter,
) -> Dict[Key, np.ndarray]:
    """Time functions. In every round each has its turn, after a call that fills the caches and
    does not count.

    Args:
        functions (dict): Functions without arguments, by any keys.
        rounds (int): How many rounds there are at most.
        block (float): Seconds of a turn, in which a function is called again and again; at least
            once.
        max_seconds (float): No round begins later, but for the first few.
        clock (callable): Gives the time in seconds.

    Returns:
        dict: For each function the seconds that a call takes, shape (rounds,).

    Example:
        >>> seconds = time_in_turns({'sum': lambda: sum(range(100))}, rounds=3)
        >>> seconds['sum'].shape
        (3,)
    """

    def now() -> float:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return clock()

    calls = {}
    for key, function in functions.items():
        for _ in range(WARM_UP):
            start = now()
            function()
            elapsed = now() - start
        calls[key] = max(1, round(block / elapsed)) if elapsed else 1
    seconds = {key: [] for key in functions}
    begin = now()
    for number in track(range(rounds), 'time side by side'):
        if number >= MIN_ROUNDS and now() - begin > max_seconds:
            break
        for key, function in functions.items():
            function()
            start = now()
            for _ in range(calls[key]):
                function()
            seconds[key].append((now() - start) / calls[key])
    return {key: np.array(values) for key, values in seconds.items()}
