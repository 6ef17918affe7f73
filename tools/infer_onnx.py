# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds keypoints with an exported model; needs no torch and no MMPose."""

import sys
from importlib.util import find_spec
from pathlib import Path

spec = find_spec('mmpose_simcc')
if spec is None:
    sys.exit('infer_onnx: mmpose_simcc is not installed')
# The client by itself: importing mmpose_simcc imports torch and MMPose.
sys.path.insert(0, str(Path(spec.origin).parent / 'deploy'))

from client.cli import main  # noqa: E402

if __name__ == '__main__':
    main()
