# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times functions side by side and compares them as ratios."""

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from mmpose_simcc.workbench.timing import time_in_turns

OURS = 'ours'


@dataclass
class Comparison:
    """One task, and everything that does it.

    Attributes:
        task (str): What is done.
        method (str): By which method.
        size (str): Input size.
        functions (dict): Callables by name; ``'ours'``, and the peers.
        items (dict): How many images, or batches, one call of each handles.
        aim (float, optional): How many times as fast as ``peer`` is aimed at.
        peer (str, optional): The one that the aim speaks of.
        slack (float): Seconds an item that the aim grants beside the ratio.
        check (callable, optional): Raises an error if the answers differ.
    """

    task: str
    method: str
    size: str
    functions: Dict[str, Callable[[], Any]]
    items: Dict[str, int]
    aim: Optional[float] = None
    peer: Optional[str] = None
    slack: float = 0.0
    check: Optional[Callable[[], None]] = None


@dataclass
class Result:
    """What was measured of a :class:`Comparison`. Seconds are those of one
    image (or of one batch, for a loss), one entry a round.

    Attributes:
        seconds (dict): Times by function, shape (rounds,) each.
        extra (dict): Other figures by function, for example peak bytes.
    """

    task: str
    method: str
    size: str
    seconds: Dict[str, np.ndarray]
    aim: Optional[float] = None
    peer: Optional[str] = None
    slack: float = 0.0
    extra: Dict[str, Dict[str, float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return float(np.median(self.seconds[name]))

    def spread(self, name: str) -> float:
        """Half of the interquartile range, as a part of the median."""
        low, high = np.percentile(self.seconds[name], (25, 75))
        return float((high - low) / 2 / self.median(name))

    def ratio(self, peer: str) -> float:
        """How many times as long as ours the peer takes: the median over the
        rounds, in which both met the same load."""
        return float(np.median(self.seconds[peer] / self.seconds[OURS]))

    def reached(self) -> Optional[float]:
        """The part of the aim that was reached, at least 1 if it was met.
        None where there is no aim."""
        if self.aim is None:
            return None
        allowed = self.seconds[self.peer] / self.aim + self.slack
        return float(np.median(allowed / self.seconds[OURS]))


def run_comparisons(
    comparisons: List[Comparison],
    rounds: int = 20,
    block: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> List[Result]:
    """Check that the answers agree, then time everything in turns.

    Args:
        comparisons (list[Comparison]): What to compare.
        rounds (int): Number of rounds.
        block (float): Seconds for each function in a round.
        clock (callable): Gives the time in seconds.

    Returns:
        list[Result]: In the order of the comparisons.

    Raises:
        AssertionError: Answers of a comparison differ.
    """
    for comparison in comparisons:
        if comparison.check is not None:
            comparison.check()
    functions = {
        (number, name): function
        for number, comparison in enumerate(comparisons)
        for name, function in comparison.functions.items()
    }
    seconds = time_in_turns(functions, rounds, block, clock=clock)
    return [
        Result(
            c.task,
            c.method,
            c.size,
            {name: seconds[number, name] / c.items[name] for name in c.functions},
            aim=c.aim,
            peer=c.peer,
            slack=c.slack,
        )
        for number, c in enumerate(comparisons)
    ]
