# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""An earlier name of ``tools/calibrate.py``."""

import sys

sys.exit('calibrate_daec.py is now: python tools/calibrate.py CONFIG CHECKPOINT --out FILE.json')
