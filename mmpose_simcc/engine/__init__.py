# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .epoch_seed_hook import EpochSeedHook

__all__ = ['EpochSeedHook']
