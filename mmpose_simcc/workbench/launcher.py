# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Programs in several processes, by MMEngine's launchers."""

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import List, Sequence

import torch
from mmengine.device import get_device
from mmengine.dist import init_dist
from mmengine.utils.dl_utils import set_multi_processing

from ..utils.processes import end_forks_with_parent, end_with_stdin

LAUNCHERS = ('none', 'pytorch', 'slurm')
# a process may wait for hours for the one that computes a metric
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Launcher:
    """How a program is started, in MMEngine's terms.

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
        """Processes that share a program's work."""
        return 1 if self.name == 'none' else self.processes

    def command(self, *program: str) -> List[str]:
        """The command that starts a program, which is told ``--launcher``.

        Args:
            program (str): A script, or ``-m`` and a module, and what follows.
        """
        program: Sequence[str] = (*program, '--launcher', self.name)
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


def begin_program(description: str, *names: str) -> argparse.Namespace:
    """Read the arguments of a program that a :class:`Launcher` started. With
    ``--end-with-stdin`` it and its data workers end as soon as the process that
    started it has ended.

    Args:
        description (str): What it does.
        names (str): Its own arguments.

    Returns:
        argparse.Namespace: These and ``launcher``.
    """
    parser = argparse.ArgumentParser(description=description)
    for name in names:
        parser.add_argument(name)
    parser.add_argument('--launcher', choices=LAUNCHERS, default=LAUNCHERS[0])
    parser.add_argument('--end-with-stdin', action='store_true')
    # torch.distributed passes it to scripts
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)
    args = parser.parse_args()
    if args.end_with_stdin:
        end_with_stdin()
    end_forks_with_parent()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def join_processes(launcher: str) -> None:
    """Join the other processes that a launcher started.

    Args:
        launcher (str): Its name; with ``'none'`` there are no others.
    """
    if launcher == 'none':
        return
    set_multi_processing(distributed=True)  # as MMEngine's Runner does
    if launcher == 'slurm':
        _read_slurm()
    if get_device() == 'cpu':  # MMEngine's would look for a GPU
        torch.distributed.init_process_group('gloo', timeout=PATIENCE)
    else:
        init_dist(launcher, timeout=PATIENCE.total_seconds())


def _read_slurm() -> None:
    """Set the environment variables by which processes of torch find each other,
    from those of srun. MMEngine does so as well, but always with the same port,
    on which two job steps on one machine would collide."""
    env = os.environ
    nodes = ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
    first = subprocess.run(nodes, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[0]
    step = 10 * int(env['SLURM_JOB_ID']) + int(env['SLURM_STEP_ID'])
    env.setdefault('MASTER_ADDR', first)
    env.setdefault('MASTER_PORT', str(20000 + step % 10000))
    env['RANK'] = env['SLURM_PROCID']
    env['WORLD_SIZE'] = env['SLURM_NTASKS']
    env['LOCAL_RANK'] = env['SLURM_LOCALID']


def leave_processes() -> None:
    """Leave the other processes, whoever joined them. A process that ends
    without it may be aborted by threads that still wait for the others."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
