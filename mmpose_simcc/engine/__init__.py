# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .config_check_hook import ConfigCheckHook
from .epoch_seed_hook import EpochSeedHook

__all__ = ['ConfigCheckHook', 'EpochSeedHook']
