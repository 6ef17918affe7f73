# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What people see of a running command."""

import contextlib
import io
import logging
import sys
import threading
import time
from datetime import timedelta
from typing import Iterable, Iterator, List, Optional, TypeVar

from mmengine.dist import get_dist_info
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

Item = TypeVar('Item')

INTERVAL = 30.0  # seconds between two lines of progress where there is no terminal


@contextlib.contextmanager
def errors_alone(logger: logging.Logger) -> Iterator[None]:
    """Let a logger tell nothing less than errors."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppress what data sets and metrics print and log."""
    with errors_alone(MMLogger.get_current_instance()), contextlib.redirect_stdout(io.StringIO()):
        yield


class Task:
    """Work whose progress is shown; :meth:`Progress.add` makes it.

    Attributes:
        description (str): What is done.
        total (float): Its steps.
        completed (float): Those that are done.
        state (str): More about it in words, such as a loss.
    """

    def __init__(self, description: str, total: float, bars: Optional[RichProgress]) -> None:
        self.description, self.total = description, total
        self.completed, self.state = 0.0, ''
        self._start = time.monotonic()
        self._first = self._last = (0.0, self._start)  # what was done, and when
        self._bars = bars
        if bars:
            self._id = bars.add_task(description, total=total, state='')

    def update(self, completed: float, state: str = '') -> None:
        """Say how many steps are done."""
        finished = self.completed < self.total <= completed
        self.completed, self.state = completed, state
        self._last = (completed, time.monotonic())
        if self._first[0] == 0:
            self._first = self._last
        if self._bars:
            self._bars.update(self._id, completed=completed, state=state)
        elif finished and time.monotonic() - self._start > 1:
            self.print_line()

    def advance(self, steps: float = 1) -> None:
        """Say that more steps are done."""
        self.update(self.completed + steps, self.state)

    def print_line(self) -> None:
        """Print the progress as a line, where no bar shows it."""
        passed = time.monotonic() - self._start
        words = [f'{self.description}: {self.completed / self.total:.0%}']
        if self.state:
            words.append(self.state)
        if self.completed >= self.total:
            words.append(f'took {_seconds(passed)}')
        elif self.completed:
            words.append(f'{_seconds(self._seconds_left())} left')
        print(', '.join(words), file=sys.stderr, flush=True)

    def _seconds_left(self) -> float:
        """By the pace since the first report, since a resumed training does not
        begin at 0."""
        (first, began), (last, now) = self._first, self._last
        if first == last:
            first, began = 0.0, self._start
        left = (now - began) * (self.total - last) / (last - first)
        return max(left - (time.monotonic() - now), 0)


def _seconds(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class Progress:
    """Shows on stderr how far tasks are: bars on a terminal, elsewhere a line
    for each unfinished task every 30 seconds, and one at its end if it took
    more than a second. In distributed runs only the first process shows them.

    Example:
        >>> with Progress() as progress:
        ...     task = progress.add('decode', total=3)
        ...     task.advance()
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._is_silent = get_dist_info()[0] != 0
        self._bars = None
        if console.is_terminal or self._is_silent:
            self._bars = RichProgress(
                TextColumn('{task.description}', markup=False),
                BarColumn(bar_width=20),
                TaskProgressColumn(),
                TextColumn('{task.fields[state]}', markup=False),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=console,
                transient=True,
                disable=self._is_silent,
            )
        self._tasks: List[Task] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._print_lines, daemon=True)

    def __enter__(self) -> 'Progress':
        if self._bars:
            self._bars.start()
        else:
            self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        if self._bars:
            self._bars.stop()
        else:
            self._end.set()
            self._thread.join()

    def add(self, description: str, total: float = 1) -> Task:
        """Begin a task.

        Args:
            description (str): What is done.
            total (float): Steps that it takes.
        """
        task = Task(description, total, self._bars)
        self._tasks.append(task)
        return task

    def _print_lines(self) -> None:
        while not self._end.wait(INTERVAL):
            for task in self._tasks:
                if task.completed < task.total:
                    task.print_line()


def track(items: Iterable[Item], description: str, total: Optional[float] = None) -> Iterator[Item]:
    """Iterate over items and show the progress, see :class:`Progress`.

    Args:
        items (iterable): The items.
        description (str): What is done with them.
        total (int, optional): How many there are, where they have no length.
    """
    with Progress() as progress:
        task = progress.add(description, len(items) if total is None else total)
        for item in items:
            yield item
            task.advance()
