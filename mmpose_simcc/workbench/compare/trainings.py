# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Trainings of the runs that have no checkpoint: where they lie, and how they are done."""

import contextlib
import copy
import glob
import inspect
import os
import re
import sys
import time
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.runner import Runner
from mmpose.registry import OPTIMIZERS

from ...utils.console import Progress
from ...utils.files import whole_file
from ...utils.processes import say_waiting, try_lock
from .errors import CompareError
from .launch import POLL, Launcher, Program
from .runs import Run

# "Epoch(train) [1][10/72] lr: 1e-03 eta: 0:01:00 ... loss: 0.0012 ..."
_LOG_LINE = re.compile(
    r'(?:Epoch\(train\)\s*\[(?P<epoch>\d+)\]|Iter\(train\)\s*)'
    r'\[\s*(?P<iter>\d+)/(?P<iters>\d+)\].*?eta: .+?\s+time:'
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
    """Say which finished trainings of the same name are not those of this run, and why it is
    trained again."""
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
    """The checkpoint from which a training goes on: the one that MMEngine's record names, or the
    newest if the training was killed before that one was written."""
    record = folder / 'last_checkpoint'
    if not record.is_file():
        return None
    path = folder / Path(record.read_text().strip()).name
    if path.is_file():
        return path
    return max(folder.glob('*.pth'), key=lambda path: path.stat().st_mtime_ns, default=None)


def training_config(run: Run, folder: Path) -> Config:
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
    # MMEngine removes the old checkpoint before it saves the next: a training
    # that keeps one alone and is killed in between would have none
    checkpoint['max_keep_ckpts'] = 2
    return cfg


def train_config(path: Path) -> None:
    """Train a config in this process, and in those that it has joined.

    Args:
        path (Path): The config.
    """
    cfg = Config.fromfile(path)
    cfg.launcher = 'pytorch' if is_distributed() else 'none'
    if get_device() == 'cpu':
        _use_fused_optimizer(cfg)
        if is_distributed():
            _wrap_for_cpu(cfg)
    Runner.from_cfg(cfg).train()


def _use_fused_optimizer(cfg: Config) -> None:
    """The optimizer in one pass over the weights, where torch has it for
    CPUs (Adam, AdamW and SGD since 2.4): a third of a step's time."""
    optimizer = cfg.optim_wrapper.get('optimizer')
    if not isinstance(optimizer, dict):  # several, by an optimizer constructor
        return
    kind = OPTIMIZERS.get(optimizer['type'])
    chosen = {'fused', 'foreach'} & optimizer.keys()  # one excludes the other
    if chosen or 'fused' not in inspect.signature(kind).parameters:
        return
    with contextlib.suppress(RuntimeError):  # of older torch
        kind([torch.zeros(1, requires_grad=True)], lr=0.1, fused=True)
        optimizer['fused'] = True


def _wrap_for_cpu(cfg: Config) -> None:
    """The model in several processes on CPUs, where MMEngine's wrapper would ask for a GPU."""
    cfg.model_wrapper_cfg = dict(
        dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        ),
        **cfg.get('model_wrapper_cfg') or {},
        device_ids=None,
    )


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
                    env = _on_threads(_num_cores() // min(at_once, len(waiting) + 1))
                folder = training_dir(run, identity, work_dir)
                program = _start(run, folder, launcher, env, progress)
                stack.callback(program.end)
                running.append((program, folder, lock))
            time.sleep(POLL)
            for training in list(running):
                program, folder, lock = training
                try:
                    if not program.is_finished():
                        continue
                    with whole_file(folder / 'finished.txt') as unfinished:
                        unfinished.write_text(_last_checkpoint(folder).name + '\n')
                except CompareError as error:  # the others go on
                    failed.append(str(error))
                running.remove(training)
                lock.release()
    if failed:
        raise CompareError('; '.join(failed))


def _num_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _on_threads(threads: int) -> Dict[str, str]:
    """The environment of a training that shares the machine's cores with others."""
    ours = dict(
        OMP_NUM_THREADS=str(threads),
        # threads that spin while they wait take the data workers' cores
        OMP_WAIT_POLICY='passive',
        # glibc gives every step's memory back, and a fifth of the next step
        # is spent on getting it again
        MALLOC_MMAP_THRESHOLD_=str(2**30),
        MALLOC_TRIM_THRESHOLD_=str(2**32),
    )
    return {**ours, **os.environ}


def _start(
    run: Run, folder: Path, launcher: Launcher, env: Dict[str, str], progress: Progress
) -> Program:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / 'config.py'
    cfg = training_config(run, folder)
    cfg.dump(config)
    epochs = cfg.train_cfg.get('max_epochs', 1)

    def read_progress(line: str) -> Optional[Tuple[float, str]]:
        found = _LOG_LINE.search(line)
        if not found:
            return None
        epoch = int(found['epoch'] or 1)
        part = int(found['iter']) / int(found['iters'])
        return (epoch - 1 + part) / epochs, f'epoch {epoch}/{epochs}, loss {found["loss"]}'

    return Program(
        f'training {run.name}',
        (train_config, (config.resolve(),)),
        folder / 'train.log',
        launcher,
        progress.add(f'train {run.name}'),
        read_progress,
        env,
    )
