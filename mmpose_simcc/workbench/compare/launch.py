# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Calls functions in other processes, by MMEngine's launchers, and reads how far they are."""

import contextlib
import os
import pickle
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from ...utils.console import Progress, Task
from ...utils.files import whole_file
from ...utils.processes import end_group
from .errors import CompareError

LAUNCHERS = ('none', 'pytorch', 'slurm')
CALL = 'mmpose_simcc.workbench.compare.call'  # the program that they start
TIMEOUT = timedelta(minutes=30)  # that a process waits for another, as in MMEngine
LONG_TIMEOUT = timedelta(days=1)  # where one computes a metric and the others wait
SECONDS_TO_END = 30  # that a program has to end when it is told to
POLL = 0.2  # seconds between two looks at a program

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


@dataclass(frozen=True)
class Launcher:
    """How processes are started, in MMEngine's terms.

    Attributes:
        name (str): One of LAUNCHERS.
        processes (int): Processes, one for each GPU.
        srun_args (str): Further arguments of ``srun``: partition, nodes.
    """

    name: str = 'none'
    processes: int = 1
    srun_args: str = ''

    @property
    def world_size(self) -> int:
        """Processes that share the work."""
        return 1 if self.name == 'none' else self.processes

    def command(self, *program: str) -> List[str]:
        """The command that starts a program, which is told ``--launcher``.

        Args:
            program (str): A script, or ``-m`` and a module, and what follows.
        """
        program = (*program, '--launcher', self.name)
        if self.name == 'pytorch':
            options = ('--standalone', f'--nproc_per_node={self.processes}')
            return [sys.executable, '-m', 'torch.distributed.run', *options, *program]
        if self.name == 'slurm':
            options = (f'--ntasks={self.processes}', '--kill-on-bad-exit=1')
            own = shlex.split(self.srun_args)
            return ['srun', *options, *own, sys.executable, '-u', *program]
        return [sys.executable, *program]


def read_percent(line: str) -> Optional[Tuple[float, str]]:
    """How far a program is that shows :class:`~mmpose_simcc.utils.console.Progress`."""
    found = _PROGRESS_LINE.match(line)
    return (int(found['percent']) / 100, '') if found else None


class Program:
    """A function that runs in processes of its own, a process group, whose log is read as it
    grows.

    Args:
        name (str): What it does.
        call (tuple): The function, by its name in a module, and a tuple of its arguments. What it
            returns is lost.
        log_file (Path): What it prints is appended here; the call lies beside it, as ``.pkl``. On
            a disk that all processes see.
        launcher (Launcher): Starts the processes, which join each other first.
        task (Task): Shows how far it is.
        read_progress (callable): The part that is done and a few words about it, if a line of
            the log tells them.
        env (dict, optional): Its environment.
        timeout (timedelta): How long a process waits for another.

    Raises:
        CompareError: The launcher's command cannot be started.
    """

    def __init__(
        self,
        name: str,
        call: Tuple[Callable, tuple],
        log_file: Path,
        launcher: Launcher,
        task: Task,
        read_progress: Callable[[str], Optional[Tuple[float, str]]] = read_percent,
        env: Optional[Dict[str, str]] = None,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        self.name, self.log_file, self.task = name, log_file, task
        self._read_progress = read_progress
        self._reason = ''
        call_file = log_file.with_suffix('.pkl')
        with whole_file(call_file) as unfinished:
            unfinished.write_bytes(pickle.dumps((*call, timeout)))
        command = launcher.command('-m', CALL, str(call_file))
        with open(log_file, 'ab') as log:
            self._read = log.tell()
            try:
                self._process = subprocess.Popen(
                    command,
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
    """Call a function in every process that a launcher starts, and wait for its end; here where
    it starts none.

    Args:
        function (callable): By its name in a module. What it returns is lost.
        arguments (tuple): Its arguments.
        name (str): What it does.
        folder (Path): For the call and its log, on a disk that all processes see.
        launcher (Launcher): Starts the processes.

    Raises:
        CompareError: A process failed; the message names the log.
    """
    if launcher.name == 'none':
        function(*arguments)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with Progress() as progress, contextlib.ExitStack() as stack:
        task, log_file = progress.add(name), folder / 'call.log'
        program = Program(
            name, (function, arguments), log_file, launcher, task, timeout=LONG_TIMEOUT
        )
        stack.callback(program.end)
        while not program.is_finished():
            time.sleep(POLL)
