# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Calls a function in every process that one of MMEngine's launchers starts.

``python -m mmpose_simcc.workbench.compare.call FILE``, where FILE is what
:func:`~mmpose_simcc.workbench.compare.launch.call` wrote.
"""

import argparse
import os
import pickle
import warnings
from pathlib import Path

# MMPose and mmcv warn of what they lack for other tasks
warnings.filterwarnings('ignore', module='mm(cv|pose)')

from ...utils.processes import end_forks_with_parent, end_with_stdin  # noqa: E402
from ..launcher import join_processes, leave_processes  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', type=Path)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--end-with-stdin', action='store_true')
    # torch.distributed passes it to scripts
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)
    args = parser.parse_args()
    if args.end_with_stdin:
        end_with_stdin()
    end_forks_with_parent()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    join_processes(args.launcher)
    function, arguments = pickle.loads(args.file.read_bytes())
    function(*arguments)
    leave_processes()


if __name__ == '__main__':
    main()
