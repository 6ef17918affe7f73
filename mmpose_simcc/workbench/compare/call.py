# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The program that launchers start: calls a function in every process of it.

``python -m mmpose_simcc.workbench.compare.call FILE --launcher NAME``, where FILE is what
:class:`~mmpose_simcc.workbench.compare.launch.Program` wrote.
"""

import argparse
import os
import pickle
import subprocess
import warnings
from datetime import timedelta
from pathlib import Path

# MMPose and mmcv warn of what they lack for other tasks
warnings.filterwarnings('ignore', module='mm(cv|pose)')

import torch  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.dist import init_dist  # noqa: E402
from mmengine.utils.dl_utils import set_multi_processing  # noqa: E402

from ...utils.processes import end_forks_with_parent, end_with_stdin  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', type=Path)
    parser.add_argument('--launcher', default='none')
    args = parser.parse_args()
    end_with_stdin()  # a pipe from the process that started the launcher
    end_forks_with_parent()
    function, arguments, timeout = pickle.loads(args.file.read_bytes())
    if args.launcher != 'none':
        join_processes(args.launcher, timeout)
    function(*arguments)
    if torch.distributed.is_initialized():
        # a process that ends without it may be aborted by threads that wait for the others
        torch.distributed.destroy_process_group()


def join_processes(launcher: str, timeout: timedelta) -> None:
    """Join the other processes that a launcher started.

    Args:
        launcher (str): ``'pytorch'`` or ``'slurm'``.
        timeout (timedelta): How long one waits for another.
    """
    set_multi_processing(distributed=True)  # as MMEngine's Runner does
    if launcher == 'slurm':
        _read_slurm()
    if get_device() == 'cpu':  # MMEngine's would look for a GPU
        torch.distributed.init_process_group('gloo', timeout=timeout)
    else:
        init_dist(launcher, timeout=timeout.total_seconds())


def _read_slurm() -> None:
    """Tell torch by environment variables where the other processes are. MMEngine does so as well,
    but always with the same port, on which two job steps on one machine would collide."""
    env = os.environ
    nodes = ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
    first = subprocess.run(nodes, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[0]
    step = 10 * int(env['SLURM_JOB_ID']) + int(env['SLURM_STEP_ID'])
    env.setdefault('MASTER_ADDR', first)
    env.setdefault('MASTER_PORT', str(20000 + step % 10000))
    env['RANK'] = env['SLURM_PROCID']
    env['WORLD_SIZE'] = env['SLURM_NTASKS']
    env['LOCAL_RANK'] = env['SLURM_LOCALID']


if __name__ == '__main__':
    main()
