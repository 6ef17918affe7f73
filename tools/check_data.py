# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Looks at the annotations of a config before a training does."""

import sys

from command_line import CommandLine, errors_in_a_line
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmpose_simcc.utils.inference import load_config
from mmpose_simcc.workbench.compare.data import use_data
from mmpose_simcc.workbench.data import check_data, measure_sigmas, write_samples

COLOURS = dict(error='bold red', warning='yellow', note='dim')


def parse_args():
    parser = CommandLine(
        'Say what is wrong with the annotations that a config trains and tests on, '
        'and draw a page of samples as the network sees them. Exits with 1 where an error makes '
        'figures meaningless.',
        'check_data.py data/mine/heatmap.py --samples samples.html',
    )
    parser.add_config()
    parser.add_data()
    parser.add_cfg_options()
    parser.add_argument(
        '--samples', metavar='FILE.html', help='write a page of samples (default: none)'
    )
    parser.add_argument(
        '--sigmas',
        nargs='+',
        metavar='FILE.json',
        help='print the sigmas of the keypoints: annotations of the same pictures by several '
        'people, a file each',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    with errors_in_a_line():
        cfg = load_config(args.config, args.cfg_options)
        if args.data:
            use_data(cfg, args.data)
        findings = check_data(cfg)
        table = Table('', 'data', 'number', 'what')
        for level, split, what, number in findings:
            table.add_row(f'[{COLOURS[level]}]{level}', split, f'{number:,}', escape(what))
        Console(width=None if sys.stdout.isatty() else 160).print(table)
        if args.samples:
            number = write_samples(cfg, args.samples)
            print(f'{number} samples: {args.samples}')
        if args.sigmas:
            sigmas = ', '.join(f'{sigma:.3f}' for sigma in measure_sigmas(args.sigmas))
            print(f'sigmas=[{sigmas}]')
    errors = sum(finding.level == 'error' for finding in findings)
    print(f'{errors} kinds of error' if errors else 'no error')
    sys.exit(bool(errors))


if __name__ == '__main__':
    main()
