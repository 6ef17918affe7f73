# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Trains one config: the program that MMEngine's launchers start.

``python -m mmpose_simcc.workbench.compare.train CONFIG``
"""

import contextlib
import inspect

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from mmpose.registry import OPTIMIZERS

from ..launcher import begin_program, join_processes, leave_processes


def main():
    args = begin_program(__doc__, 'config')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if get_device() == 'cpu':
        _use_fused_optimizer(cfg)
        if args.launcher != 'none':
            join_processes(args.launcher)
            _wrap_for_cpu(cfg)
    Runner.from_cfg(cfg).train()
    leave_processes()


def _use_fused_optimizer(cfg: Config) -> None:
    """The optimizer in one pass over the weights, where torch has it for
    CPUs (Adam, AdamW and SGD since 2.4): a third of a step's time."""
    optimizer = cfg.optim_wrapper.get('optimizer')
    if not isinstance(optimizer, dict):  # several, by an optimizer constructor
        return
    kind = OPTIMIZERS.get(optimizer['type'])
    chosen = {'fused', 'foreach'} & optimizer.keys()  # one excludes the other
    if chosen or 'fused' not in inspect.signature(kind).parameters:
        return
    with contextlib.suppress(RuntimeError):  # of older torch
        kind([torch.zeros(1, requires_grad=True)], lr=0.1, fused=True)
        optimizer['fused'] = True


def _wrap_for_cpu(cfg: Config) -> None:
    """The model in several processes on CPUs, where MMEngine's wrapper would ask for a GPU."""
    cfg.model_wrapper_cfg = dict(
        dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        ),
        **cfg.get('model_wrapper_cfg') or {},
        device_ids=None,
    )


if __name__ == '__main__':
    main()
