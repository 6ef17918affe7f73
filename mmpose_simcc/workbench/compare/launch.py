# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Starts programs and waits for them: trainings of the runs that have no
checkpoint, and whatever else goes to the processes of a launcher."""

import contextlib
import copy
import glob
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional

from filelock import FileLock
from mmengine.config import Config
from mmengine.device import get_device

from ...utils.console import Progress, Task
from ...utils.files import whole_file
from ...utils.processes import end_group, say_waiting, try_lock
from ..launcher import Launcher
from .errors import CompareError
from .runs import Run

SECONDS_TO_END = 30  # that a program has to end when it is told to
POLL = 0.2  # seconds between two looks at a program

# what launchers start
TRAIN = 'mmpose_simcc.workbench.compare.train'
CALL = 'mmpose_simcc.workbench.compare.call'

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
# "Epoch(train) [1][10/72] lr: 1e-03 eta: 0:01:00 ... loss: 0.0012 ..."
_LOG_LINE = re.compile(
    r'(?:Epoch\(train\)\s*\[(?P<epoch>\d+)\]|Iter\(train\)\s*)'
    r'\[\s*(?P<iter>\d+)/(?P<iters>\d+)\].*?eta: (?P<eta>.+?)\s+time:'
    r'.*?\bloss: (?P<loss>\S+)'
)


def training_dir(run: Run, identity: str, work_dir: Path) -> Path:
    name = re.sub(r'[^\w.=-]+', '_', run.name)
    return work_dir / 'trainings' / f'{name}-{identity}'


def find_training(identity: str, work_dir: Path) -> Optional[Path]:
    """The checkpoint of a finished training, by its
    :func:`~mmpose_simcc.workbench.identity.training_identity`."""
    for finished in work_dir.glob(f'trainings/*-{identity}/finished.txt'):
        checkpoint = finished.parent / finished.read_text().strip()
        if checkpoint.is_file():
            return checkpoint
    return None


def say_outdated(run: Run, identity: str, work_dir: Path) -> None:
    """Say which finished training of the same name does not serve this run,
    before it takes hours again."""
    name = glob.escape(training_dir(run, identity, work_dir).name[: -len(identity)])
    for finished in work_dir.glob(f'trainings/{name}{"?" * len(identity)}/finished.txt'):
        print(
            f'train {run.name}: {finished.parent} had another config, other data (pictures count '
            'by size and modification time, with --hash by content), versions or number of '
            'processes, and is not used',
            file=sys.stderr,
            flush=True,
        )


def _last_checkpoint(folder: Path) -> Optional[Path]:
    """What a training goes on from: that which MMEngine names, or the newest
    where it was killed while it wrote the name."""
    record = folder / 'last_checkpoint'
    if not record.is_file():
        return None
    path = folder / Path(record.read_text().strip()).name
    if path.is_file():
        return path
    return max(folder.glob('*.pth'), key=lambda path: path.stat().st_mtime_ns, default=None)


def _training_config(run: Run, folder: Path) -> Config:
    """The run's config without validation: the comparison evaluates the last
    checkpoint itself. It continues from the last checkpoint in ``folder``."""
    cfg = copy.deepcopy(run.cfg)
    cfg.work_dir = str(folder.resolve())
    last = _last_checkpoint(folder)
    cfg.resume = last is not None
    if last:
        cfg.load_from = str(last.resolve())
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.train_cfg.pop('val_interval', None)
    checkpoint = cfg.setdefault('default_hooks', {}).setdefault(
        'checkpoint', dict(type='CheckpointHook')
    )
    for name in ('save_best', 'rule', 'out_dir'):
        checkpoint.pop(name, None)
    checkpoint['save_last'] = True
    # MMEngine removes one before it saves the next: with a single one, a
    # training that is killed there would have none
    checkpoint['max_keep_ckpts'] = 2
    return cfg


def train(trainings: Mapping[str, Run], work_dir: Path, launcher: Launcher) -> None:
    """Train runs, or finish their interrupted trainings. One that another
    process has begun is waited for.

    Without a GPU as many train at once as there are cores, each with its
    share of them: networks of a size that CPUs can train use one core better
    than several. All trainings end with this process.

    Args:
        trainings (dict[str, Run]): A run for each
            :func:`~mmpose_simcc.workbench.identity.training_identity`.
        work_dir (Path): The comparison's folder, in which
            :func:`find_training` finds their checkpoints.
        launcher (Launcher): How to start a training.

    Raises:
        CompareError: Trainings failed, while the others went on to their end; the message names
            their logs.
    """
    side_by_side = launcher.name == 'none' and get_device() == 'cpu'
    at_once = min(len(trainings), _num_cores()) if side_by_side else 1
    waiting, elsewhere, running, failed = dict(trainings), set(), [], []
    for identity, run in trainings.items():
        say_outdated(run, identity, work_dir)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress())
        while waiting or running:
            for identity, run in list(waiting.items()):
                if len(running) == at_once:
                    break
                lock = try_lock(work_dir / 'locks' / f'{identity}.lock')
                if lock is None:
                    if identity not in elsewhere:
                        say_waiting(f'train {run.name}')
                        elsewhere.add(identity)
                    continue
                stack.callback(lock.release)
                del waiting[identity]
                if find_training(identity, work_dir):
                    lock.release()
                    continue
                env = dict(os.environ)
                if side_by_side:
                    threads = _num_cores() // min(at_once, len(waiting) + 1)
                    env.setdefault('OMP_NUM_THREADS', str(threads))
                    # threads that spin while they wait take the data workers' cores
                    env.setdefault('OMP_WAIT_POLICY', 'passive')
                    # glibc gives every step's memory back, and a fifth of
                    # the next step is spent on getting it again
                    env.setdefault('MALLOC_MMAP_THRESHOLD_', str(2**30))
                    env.setdefault('MALLOC_TRIM_THRESHOLD_', str(2**32))
                folder = training_dir(run, identity, work_dir)
                training = _Training(run, folder, lock, launcher, env, progress)
                stack.callback(training.end)
                running.append(training)
            time.sleep(POLL)
            for training in list(running):
                try:
                    finished = training.is_finished()
                except CompareError as error:  # the others go on
                    failed.append(str(error))
                    finished = True
                if finished:
                    running.remove(training)
    if failed:
        raise CompareError('; '.join(failed))


def _num_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Program:
    """A program in a process group of its own, whose log is read as it grows.

    Args:
        name (str): What it does.
        command (list[str]): How to start it.
        log_file (Path): What it prints is appended here.
        task (Task): Shows how far it is.
        env (dict, optional): Its environment.
    """

    def __init__(
        self,
        name: str,
        command: List[str],
        log_file: Path,
        task: Task,
        env: Optional[Dict[str, str]] = None,
    ) -> None:
        self.name, self.log_file, self.task = name, log_file, task
        self._reason = ''
        with open(log_file, 'ab') as log:
            self._read = log.tell()
            try:
                self._process = subprocess.Popen(
                    [*command, '--end-with-stdin'],
                    stdin=subprocess.PIPE,  # it ends when this process has
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise CompareError(f'cannot start {command[0]}: {error}') from error

    def _show(self, line: str) -> None:
        """Show the progress that a line of the log tells."""
        found = _PROGRESS_LINE.match(line)
        if found:
            self.task.update(int(found['percent']) / 100)

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
            self._show(line)
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
        if self._process.stdin.closed:  # it has ended: its number may be another program's
            return
        end_group(self._process, SECONDS_TO_END)
        self._process.stdin.close()
        self._process.wait()


class _Training(_Program):
    """A training.

    Args:
        run (Run): The run.
        folder (Path): Its folder.
        lock (FileLock): Is released once it is finished.
        launcher (Launcher): How to start it.
        env (dict): Its environment.
        progress (Progress): Shows how far it is.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        lock: FileLock,
        launcher: Launcher,
        env: Dict[str, str],
        progress: Progress,
    ) -> None:
        self.folder, self._lock = folder, lock
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / 'config.py'
        cfg = _training_config(run, self.folder)
        cfg.dump(config)
        self._epochs = cfg.train_cfg.get('max_epochs', 1)
        super().__init__(
            f'training {run.name}',
            launcher.command('-m', TRAIN, str(config)),
            self.folder / 'train.log',
            progress.add(f'train {run.name}'),
            env,
        )

    def _show(self, line: str) -> None:
        found = _LOG_LINE.search(line)
        if found:
            epoch = int(found['epoch'] or 1)
            part = int(found['iter']) / int(found['iters'])
            self.task.update(
                (epoch - 1 + part) / self._epochs,
                f'epoch {epoch}/{self._epochs}, loss {found["loss"]}',
            )

    def is_finished(self) -> bool:
        if not super().is_finished():
            return False
        with whole_file(self.folder / 'finished.txt') as unfinished:
            unfinished.write_text(_last_checkpoint(self.folder).name + '\n')
        self._lock.release()
        return True


def call(function: Callable, arguments: tuple, name: str, folder: Path, launcher: Launcher) -> None:
    """Call a function in every process that a launcher starts, which join
    each other before, and wait for its end.

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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'call.pkl'
    with whole_file(path) as unfinished:
        unfinished.write_bytes(pickle.dumps((function, arguments)))
    with contextlib.ExitStack() as stack:
        task = stack.enter_context(Progress()).add(name)
        command = launcher.command('-m', CALL, str(path))
        program = _Program(name, command, folder / 'call.log', task)
        stack.callback(program.end)
        while not program.is_finished():
            time.sleep(POLL)
