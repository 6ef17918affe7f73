# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Starts programs, alone or in the processes of a launcher, and reads how far they are."""

import contextlib
import os
import pickle
import re
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from ...utils.console import Progress, Task
from ...utils.files import whole_file
from ...utils.processes import end_group
from ..launcher import Launcher
from .errors import CompareError

SECONDS_TO_END = 30  # that a program has to end when it is told to
POLL = 0.2  # seconds between two looks at a program
CALL = 'mmpose_simcc.workbench.compare.call'  # what launchers start

# "KeyError: ...", "mmpose_simcc....CompareError: ..."; and a process that could
# say nothing: "traceback : Signal 9 (SIGKILL) received by PID 123" of torchrun,
# "srun: error: node1: task 0: Killed"; the others get SIGTERM or find their connection closed
_REASON = re.compile(
    r'(?:\[rank\d+\]: )?(?P<error>(?!torch\.distributed\.elastic|.*Connection \w+ by peer)'
    r'[\w.]*(?:Error|Exception)\b.*)'
    r'|.*\b(?P<signal>Signal \d+ \(SIG(?!TERM)\w+\) received by PID \d+)'
    r'|srun: error: (?P<srun>(?!.*: (?:Exited|Terminated)).*)'
)
# "evaluate td-hm_res18: 40%, 0:00:30 left"
_PROGRESS_LINE = re.compile(r'.*: (?P<percent>\d+)%')


def read_percent(line: str) -> Optional[Tuple[float, str]]:
    """How far a program is that shows :class:`~mmpose_simcc.utils.console.Progress`."""
    found = _PROGRESS_LINE.match(line)
    return (int(found['percent']) / 100, '') if found else None


class Program:
    """A program in a process group of its own, whose log is read as it grows.

    Args:
        name (str): What it does.
        command (list[str]): How to start it.
        log_file (Path): What it prints is appended here.
        task (Task): Shows how far it is.
        read_progress (callable): The part that is done and a few words about it, if a line of
            the log tells them.
        env (dict, optional): Its environment.
    """

    def __init__(
        self,
        name: str,
        command: List[str],
        log_file: Path,
        task: Task,
        read_progress: Callable[[str], Optional[Tuple[float, str]]] = read_percent,
        env: Optional[Dict[str, str]] = None,
    ) -> None:
        self.name, self.log_file, self.task = name, log_file, task
        self._read_progress = read_progress
        self._reason = ''
        with open(log_file, 'ab') as log:
            self._read = log.tell()
            try:
                self._process = subprocess.Popen(
                    [*command, '--end-with-stdin'],
                    stdin=subprocess.PIPE,  # it ends when this process has
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Python 3.11 on: a random.py in the user's folder is not the library's
                    env={**(env or os.environ), 'PYTHONSAFEPATH': '1'},
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise CompareError(f'cannot start {command[0]}: {error}') from error

    def is_finished(self) -> bool:
        """Read what is new in the log.

        Raises:
            CompareError: The program failed.
        """
        code = self._process.poll()
        if code is not None:  # a data worker whose training is gone may wait for it for ever
            self.end()
        for line in self._new_lines():
            found = _REASON.match(line)
            if found:
                self._reason = found[found.lastgroup].strip()
            progress = self._read_progress(line)
            if progress:
                self.task.update(*progress)
        if code:
            raise CompareError(
                f'{self.name} failed with exit status {code}: '
                f'{self._reason or "no reason given"} (log: {self.log_file})'
            )
        if code is None:
            return False
        self.task.update(1)
        return True

    def _new_lines(self) -> List[str]:
        with open(self.log_file, 'rb') as log:
            log.seek(self._read)
            content = log.read()
        whole = content[: content.rfind(b'\n') + 1]
        self._read += len(whole)
        return whole.decode(errors='replace').splitlines()

    def end(self) -> None:
        """End what still runs of it: the process, its data workers and those
        of its launcher."""
        if self._process.stdin.closed:  # it has ended, and its pid may be another program's
            return
        end_group(self._process, SECONDS_TO_END)
        self._process.stdin.close()
        self._process.wait()


def call(function: Callable, arguments: tuple, name: str, folder: Path, launcher: Launcher) -> None:
    """Call a function in every process that a launcher starts, which join
    each other before, and wait for its end; here where it starts none.

    Args:
        function (callable): By its name in a module. What it returns is lost.
        arguments (tuple): Its arguments.
        name (str): What it does.
        folder (Path): For the call and its log, on a disk that all
            processes see.
        launcher (Launcher): Starts the processes.

    Raises:
        CompareError: A process failed; the message names the log.
    """
    if launcher.name == 'none':
        function(*arguments)
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'call.pkl'
    with whole_file(path) as unfinished:
        unfinished.write_bytes(pickle.dumps((function, arguments)))
    with contextlib.ExitStack() as stack:
        task = stack.enter_context(Progress()).add(name)
        command = launcher.command('-m', CALL, str(path))
        program = Program(name, command, folder / 'call.log', task)
        stack.callback(program.end)
        while not program.is_finished():
            time.sleep(POLL)
