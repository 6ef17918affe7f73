# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Rehearses comparison and calibration at COCO's size."""

import argparse
from pathlib import Path

from benchmark.scale import PARTS, rehearse, scale_table


def parse_args():
    parser = argparse.ArgumentParser(
        description="Memory and time of this package's steps at COCO's size, on drawn "
        'annotations and with a network of one layer, each in a process of its own.'
    )
    parser.add_argument('parts', nargs='*', metavar='PART', help=f'some of: {", ".join(PARTS)}')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/scale'),
        metavar='DIR',
        help='default: %(default)s',
    )
    parser.add_argument(
        '--part', type=float, default=1.0, metavar='P', help="of COCO's size (default: all)"
    )
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f'there is no part {", ".join(sorted(unknown))}; there are {", ".join(PARTS)}')
    if not 0 < args.part <= 1:
        parser.error(f'--part must be in (0, 1], not {args.part:g}')
    return args


def main():
    args = parse_args()
    rehearsals = [rehearse(name, args.work_dir, args.part) for name in args.parts or PARTS]
    print(scale_table(rehearsals))


if __name__ == '__main__':
    main()
