# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .backbones import *  # noqa: F401, F403
from .heads import *  # noqa: F401, F403
from .losses import *  # noqa: F401, F403
from .pose_estimators import *  # noqa: F401, F403
