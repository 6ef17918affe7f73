# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Prints the size and the cost of models."""

import argparse
import sys

import torch

from mmpose_simcc.workbench.complexity import (
    FORMATS,
    measure_size,
    size_table,
)


def parse_args():
    parser = argparse.ArgumentParser(
        description='Parameters, GFLOPs by the count of the papers and by '
        'the true count, activations and forward time of top-down models. '
        'No weights are needed or downloaded.',
        epilog='example: python tools/model_size.py mmpose::'
        'body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_res50_8xb64-210e_coco-256x192.py',
    )
    parser.add_argument(
        'configs', nargs='+', metavar='CONFIG', help='config file, or mmpose::... for one of MMPose'
    )
    parser.add_argument('--format', choices=FORMATS, default='table', help='default: table')
    parser.add_argument(
        '--device', help='where to time the forward pass (default: cuda if there is, else cpu)'
    )
    parser.add_argument('--no-time', action='store_true', help='do not time the forward pass')
    args = parser.parse_args()
    if args.device is None:
        args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f'--device {args.device}: {str(error).splitlines()[0]}')
    return args


def main():
    args = parse_args()
    try:
        device = None if args.no_time else args.device
        records = [measure_size(config, device) for config in args.configs]
        print(size_table(records, args.format))
    except ValueError as error:
        sys.exit(f'model_size: {error}')


if __name__ == '__main__':
    main()
