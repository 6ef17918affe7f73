# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Rehearses comparison and calibration at COCO's size."""

from benchmark.scale import PARTS, rehearse, scale_table
from command_line import CommandLine


def parse_args():
    parser = CommandLine(
        "Measure memory and time of this package's steps at COCO's size, on drawn annotations and "
        'with a network of one layer, each in a process of its own.',
        'benchmark_scale.py annotations evaluation --part 0.1',
    )
    parser.add_argument(
        'parts', nargs='*', metavar='PART', help=f'some of: {", ".join(PARTS)} (default: all)'
    )
    parser.add_argument(
        '--part',
        type=float,
        default=1.0,
        metavar='P',
        help="part of COCO's size, at most 1 (default: %(default)s)",
    )
    parser.add_work_dir('scale', 'drawn annotations and results')
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
