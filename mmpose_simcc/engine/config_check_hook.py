# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import itertools
from typing import Any, Dict

import torch
from mmengine.dist import get_world_size
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmpose.registry import HOOKS

from ..config import check_config
from ..utils.configs import check_published_frame
from ..utils.console import silenced
from ..utils.inference import one_line

BATCH = 4  # samples of a trial


@HOOKS.register_module()
class ConfigCheckHook(Hook):
    """Refuses a training whose config contradicts itself, and published weights of pictures that
    were cut out otherwise than the config does. :func:`set_representation` adds it.

    A training is checked before its first step: its config (:func:`check_config`), and its
    validation by four samples, since the first one is often ten epochs away. A checkpoint is
    checked when it is loaded, for a test as well.

    Raises:
        ValueError: Two parts of the config disagree, or config and checkpoint; the validation
            fails.

    Example:
        >>> default_hooks = dict(config_check=dict(type='ConfigCheckHook'))
    """

    def before_train(self, runner) -> None:
        check_config(runner.cfg)
        if runner.val_loop is not None:
            try:
                with silenced(), torch.no_grad():
                    _try_validation(runner)
            except Exception as error:  # of anybody's data set, model or metric
                raise ValueError(f'the validation would fail: {one_line(error)}') from error

    def after_load_checkpoint(self, runner, checkpoint: Dict[str, Any]) -> None:
        check_published_frame(runner.cfg, checkpoint.get('meta'))


def _try_validation(runner) -> None:
    """Four samples through the network and the metrics, in this process and without a random
    number, so that the training stays what it is."""
    loader, evaluator = runner.val_loop.dataloader, runner.val_loop.evaluator
    first = itertools.islice(loader.sampler, BATCH)
    batch = loader.collate_fn([loader.dataset[index] for index in first])
    runner.model.eval()
    outputs = runner.model.val_step(batch)
    runner.model.train()
    evaluator.process(data_samples=outputs, data_batch=batch)
    # an evaluator of several data sets needs samples of each; `gt_converter` changes its metric
    converted = any(getattr(metric, 'gt_converter', None) for metric in evaluator.metrics)
    if type(evaluator) is Evaluator and not converted:
        evaluator.evaluate(len(outputs) * get_world_size())
    for metric in evaluator.metrics:
        metric.results.clear()
