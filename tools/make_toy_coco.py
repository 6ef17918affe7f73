# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Draws a toy data set of people in COCO's layout."""

import argparse
import sys

from mmpose_simcc.workbench.toy import make_toy_coco


def parse_args():
    parser = argparse.ArgumentParser(
        description='Draw images of people with exact COCO keypoint '
        'annotations, laid out like COCO 2017, so that a COCO config runs on '
        'them with another data_root. The same arguments give the same '
        'bytes; a finished folder is left as it is.',
        epilog='example: python tools/make_toy_coco.py data/toy --train 3000 --val 500 --seed 0',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', metavar='OUT', help='new or empty folder')
    parser.add_argument(
        '--train', type=int, default=3000, metavar='N', help='training images, 1 to 3 people each'
    )
    parser.add_argument('--val', type=int, default=500, metavar='M', help='validation images')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        metavar='S',
        help='image i of a split depends on the seed and i alone',
    )
    parser.add_argument(
        '--workers',
        type=int,
        metavar='P',
        help='drawing processes (default: one a core)',
        default=argparse.SUPPRESS,
    )
    return parser.parse_args()


def main():
    args = vars(parse_args())
    try:
        drawn = make_toy_coco(**args)
    except (ValueError, OSError) as error:
        print(f'make_toy_coco: {error}', file=sys.stderr)
        sys.exit(2 if isinstance(error, ValueError) else 1)
    print(f'{args["out"]} is complete' if drawn else f'{args["out"]} was complete already')


if __name__ == '__main__':
    main()
