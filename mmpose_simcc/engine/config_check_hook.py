# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Any, Dict

from mmengine.hooks import Hook
from mmpose.registry import HOOKS

from ..config import check_config
from ..utils.configs import check_published_frame


@HOOKS.register_module()
class ConfigCheckHook(Hook):
    """Refuses a training whose config contradicts itself, and published weights of pictures that
    were cut out otherwise than the config does. :func:`set_representation` adds it.

    A training is checked before its first step (:func:`check_config`), a checkpoint when it is
    loaded, for a test as well.

    Raises:
        ValueError: Two parts of the config disagree, or config and checkpoint.

    Example:
        >>> default_hooks = dict(config_check=dict(type='ConfigCheckHook'))
    """

    def before_train(self, runner) -> None:
        check_config(runner.cfg)

    def after_load_checkpoint(self, runner, checkpoint: Dict[str, Any]) -> None:
        check_published_frame(runner.cfg, checkpoint.get('meta'))
