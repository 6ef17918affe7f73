# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""MMPose's training script in an environment that this package has mended:
what ``mim train mmpose_simcc CONFIG`` runs."""

import runpy
from pathlib import Path

import mmpose_simcc  # noqa: F401  (before mmpose, which it mends)

import mmpose  # isort: skip

if __name__ == '__main__':
    tools = Path(mmpose.__file__).parent / '.mim' / 'tools'
    runpy.run_path(str(tools / 'train.py'), run_name='__main__')
