# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Trains one config: the program that MMEngine's launchers start.

``python -m mmpose_simcc.workbench.compare.train CONFIG``
"""

import argparse
import os

import torch
from mmengine.config import Config
from mmengine.runner import Runner


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    # torch.distributed passes it to scripts
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.launcher == 'pytorch' and not torch.cuda.is_available():
        _use_gloo(cfg)
    Runner.from_cfg(cfg).train()


def _use_gloo(cfg: Config) -> None:
    """Several processes on CPUs, where MMEngine would ask for GPUs."""
    torch.distributed.init_process_group('gloo')
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
