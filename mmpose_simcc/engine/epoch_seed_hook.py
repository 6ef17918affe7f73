# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import random
from functools import partial

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmpose.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every epoch by (seed, epoch), so that a training that was
    interrupted and resumed ends with the weights of an uninterrupted one.

    MMEngine seeds data workers when they start. Workers that persist go on
    with their random numbers in the next epoch, but those of a resumed
    training begin anew, and its augmentation is another. Workers that do not
    persist repeat the random numbers of the first epoch in every epoch. With
    this hook each epoch has numbers of its own, which depend on nothing that
    was before: in the workers, which are started anew for it, and in the
    training process, where dropout draws them.

    For epoch-based loops whose checkpoints are saved between epochs, with the
    same number of workers and processes. Iteration-based loops need no hook
    for this: MMEngine (0.10.7) passes over the data that were trained on.

    Example:
        >>> custom_hooks = [dict(type='EpochSeedHook')]
    """

    def before_train_epoch(self, runner) -> None:
        # independent streams for neighbouring seeds and epochs; halved, since
        # the rank and the number of the worker are added to it
        entropy = np.random.SeedSequence((runner.seed, runner.epoch))
        seed = int(entropy.generate_state(1)[0]) // 2
        random.seed(seed + get_rank())
        np.random.seed(seed + get_rank())
        torch.manual_seed(seed + get_rank())
        loader = runner.train_dataloader
        if loader.num_workers:
            loader.worker_init_fn = partial(loader.worker_init_fn, seed=seed)
            # workers that persist would not be seeded again
            loader._iterator = None
