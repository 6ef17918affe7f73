# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .kl_loss import SimCCKLLoss

__all__ = ['SimCCKLLoss']
