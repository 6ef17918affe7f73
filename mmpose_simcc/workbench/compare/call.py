# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Calls a function in every process that one of MMEngine's launchers starts.

``python -m mmpose_simcc.workbench.compare.call FILE``, where FILE is what
:func:`~mmpose_simcc.workbench.compare.launch.call` wrote.
"""

import pickle
import warnings
from pathlib import Path

# MMPose and mmcv warn of what they lack for other tasks
warnings.filterwarnings('ignore', module='mm(cv|pose)')

from ..launcher import begin_program, join_processes, leave_processes  # noqa: E402


def main():
    args = begin_program(__doc__, 'file')
    join_processes(args.launcher)
    function, arguments = pickle.loads(Path(args.file).read_bytes())
    function(*arguments)
    leave_processes()


if __name__ == '__main__':
    main()
