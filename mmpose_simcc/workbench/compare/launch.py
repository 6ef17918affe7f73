# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Trains the runs that have no checkpoint, each in a process of its own."""

import copy
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from .errors import CompareError
from .runs import Run, training_identity

# "Epoch(train) [1][10/72] lr: 1e-03 eta: 0:01:00 ... loss: 0.0012 ..."
_LOG_LINE = re.compile(
    r'(?:Epoch\(train\)\s*\[(?P<epoch>\d+)\]|Iter\(train\)\s*)'
    r'\[\s*(?P<iter>\d+)/(?P<iters>\d+)\].*?eta: (?P<eta>.+?)\s+time:'
    r'.*?\bloss: (?P<loss>\S+)'
)


@dataclass(frozen=True)
class Launcher:
    """How a training is started, in MMEngine's terms.

    Attributes:
        name (str): ``'none'``, ``'pytorch'`` or ``'slurm'``.
        processes (int): Processes, one for each GPU.
        srun_args (str): Further arguments of ``srun``: partition, nodes.
    """

    name: str = 'none'
    processes: int = 1
    srun_args: str = ''

    def command(self, config: Path) -> List[str]:
        program = [
            '-m',
            'mmpose_simcc.workbench.compare.train',
            str(config),
            '--launcher',
            self.name,
        ]
        if self.name == 'pytorch':
            return [
                sys.executable,
                '-m',
                'torch.distributed.run',
                '--standalone',
                f'--nproc_per_node={self.processes}',
                *program,
            ]
        if self.name == 'slurm':
            return [
                'srun',
                f'--ntasks={self.processes}',
                '--kill-on-bad-exit=1',
                *shlex.split(self.srun_args),
                sys.executable,
                '-u',
                *program,
            ]
        return [sys.executable, *program]


def training_dir(run: Run, work_dir: Path) -> Path:
    name = re.sub(r'[^\w.=-]+', '_', run.name)
    return work_dir / 'trainings' / f'{name}-{training_identity(run)}'


def find_training(run: Run, work_dir: Path) -> Optional[Path]:
    """The checkpoint of a finished training that serves a run."""
    pattern = f'trainings/*-{training_identity(run)}/finished.txt'
    for finished in work_dir.glob(pattern):
        checkpoint = finished.parent / finished.read_text().strip()
        if checkpoint.is_file():
            return checkpoint
    return None


def _training_config(run: Run, folder: Path) -> Config:
    """The run's config without validation: the comparison evaluates the last
    checkpoint itself. It continues from the last checkpoint in ``folder``."""
    cfg = copy.deepcopy(run.cfg)
    cfg.work_dir = str(folder.resolve())
    cfg.resume = (folder / 'last_checkpoint').is_file()
    if cfg.resume:  # MMEngine would resume from the file that it names
        cfg.load_from = None
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.train_cfg.pop('val_interval', None)
    checkpoint = cfg.setdefault('default_hooks', {}).setdefault(
        'checkpoint', dict(type='CheckpointHook')
    )
    checkpoint.pop('save_best', None)
    checkpoint.pop('rule', None)
    # MMEngine removes one before it saves the next: with a single one, a
    # training that is killed there would have none
    checkpoint['max_keep_ckpts'] = 2
    return cfg


def train(run: Run, work_dir: Path, launcher: Launcher) -> Path:
    """Train a run, or finish its interrupted training.

    Args:
        run (Run): The run.
        work_dir (Path): The comparison's folder.
        launcher (Launcher): How to start the training.

    Returns:
        Path: The last checkpoint.

    Raises:
        CompareError: The training failed; the message names its log.
    """
    folder = training_dir(run, work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / 'config.py'
    cfg = _training_config(run, folder)
    cfg.dump(config)
    command = launcher.command(config)
    log_file = folder / 'train.log'
    reason = ''
    try:
        with (
            open(log_file, 'a') as log,
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors='replace',
            ) as process,
            _progress() as progress,
        ):
            epochs = cfg.train_cfg.get('max_epochs', 1)
            task = progress.add_task(f'train {run.name}', total=1, state='starting')
            try:
                for line in process.stdout:
                    log.write(line)
                    log.flush()
                    if re.match(r'\w+(Error|Exception)\b', line):
                        reason = line.strip()
                    found = _LOG_LINE.search(line)
                    if found:
                        epoch = int(found['epoch'] or 1)
                        part = int(found['iter']) / int(found['iters'])
                        progress.update(
                            task,
                            completed=(epoch - 1 + part) / epochs,
                            state=f'epoch {epoch}/{epochs}, '
                            f'loss {found["loss"]}, {found["eta"]} left',
                        )
                code = process.wait()
            except BaseException:
                process.terminate()
                raise
            if code == 0:
                progress.update(task, completed=1, state='done')
    except FileNotFoundError as error:
        raise CompareError(f'cannot start {command[0]}: {error}') from error
    if code:
        raise CompareError(
            f'training {run.name} failed with exit status {code}: '
            f'{reason or "no reason given"} (log: {log_file})'
        )
    checkpoint = Path(find_latest_checkpoint(str(folder)))
    (folder / 'finished.txt').write_text(checkpoint.name + '\n')
    return checkpoint


def _progress() -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn('{task.fields[state]}'),
        TimeElapsedColumn(),
    )
