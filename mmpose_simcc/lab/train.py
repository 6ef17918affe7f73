# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Trains one config: the program that MMEngine's launchers start.

``python -m mmpose_simcc.lab.train CONFIG --launcher none|pytorch|slurm``
"""
import argparse
import os

from mmengine.config import Config
from mmengine.runner import Runner


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    # torch.distributed passes it to scripts
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    main()
