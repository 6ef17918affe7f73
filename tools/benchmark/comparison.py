# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times what does the same task side by side, and compares the times as ratios."""

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from mmpose_simcc.workbench.timing import time_in_turns

OURS = 'ours'


@dataclass
class Aim:
    """How fast a task ought to be: at most the time of ``peer`` / ``ratio`` + ``slack`` seconds."""

    peer: str
    ratio: float
    slack: float = 0.0

    def __str__(self) -> str:
        if self.slack:
            return f'{1 / self.ratio:g} x {self.peer} + {self.slack * 1e6:g} us'
        return f'{self.ratio:g}x {self.peer}'


@dataclass
class Comparison:
    """One task, and everything that does it.

    Attributes:
        task (str): What is done.
        method (str): By which method.
        size (str): Input size.
        functions (dict): Callables by name; ``'ours'``, and the peers.
        images (int): How many one call handles.
        aim (Aim, optional): What is aimed at.
        check (callable, optional): Raises an error if the answers differ.
        seconds (dict): By the names of the functions seconds an image, shape (rounds,). Empty
            until they are timed.
    """

    task: str
    method: str
    size: str
    functions: Dict[str, Callable[[], Any]]
    images: int = 1
    aim: Optional[Aim] = None
    check: Optional[Callable[[], None]] = None
    seconds: Dict[str, np.ndarray] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return float(np.median(self.seconds[name]))

    def spread(self, name: str) -> float:
        """Half of the interquartile range, as a part of the median."""
        low, high = np.percentile(self.seconds[name], (25, 75))
        return float((high - low) / 2 / self.median(name))

    def ratio(self, peer: str) -> float:
        """How many times as long as ours the peer takes: the median over the rounds, in which
        both met the same load."""
        return float(np.median(self.seconds[peer] / self.seconds[OURS]))

    def reached(self) -> float:
        """The part of the aim that was reached, at least 1 if it was met."""
        allowed = self.seconds[self.aim.peer] / self.aim.ratio + self.aim.slack
        return float(np.median(allowed / self.seconds[OURS]))


def time_comparisons(
    comparisons: List[Comparison],
    rounds: int,
    block: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Check that the answers agree, then time everything in turns.

    Args:
        comparisons (list[Comparison]): Get their ``seconds``.
        rounds (int): Number of rounds.
        block (float): Seconds for each function in a round.
        clock (callable): Gives the time in seconds.

    Raises:
        AssertionError: Answers of a comparison differ.
    """
    for comparison in comparisons:
        if comparison.check:
            comparison.check()
    functions = {
        (number, name): function
        for number, comparison in enumerate(comparisons)
        for name, function in comparison.functions.items()
    }
    seconds = time_in_turns(functions, rounds, block, clock=clock)
    for (number, name), of_calls in seconds.items():
        comparisons[number].seconds[name] = of_calls / comparisons[number].images
