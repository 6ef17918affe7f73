# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Looks at the annotations of a config before a training does."""

import argparse
import sys

from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table

from mmpose_simcc.utils.inference import load_config
from mmpose_simcc.workbench.data import check_data, write_samples

COLOURS = dict(error='bold red', warning='yellow', note='dim')


def parse_args():
    parser = argparse.ArgumentParser(
        description='Say what is wrong with the annotations that a config trains and tests on, '
        'and draw a page of samples as the network sees them. Exits with 1 where an error makes '
        'figures meaningless.',
        epilog='example: python tools/check_data.py data/mine/heatmap.py --samples samples.html',
    )
    parser.add_argument('config', metavar='CONFIG', help='config file, or mmpose::...')
    parser.add_argument(
        '--samples', metavar='FILE.html', help='write a page of samples (default: none)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        cfg = load_config(args.config)
        if args.cfg_options:
            cfg.merge_from_dict(args.cfg_options)
        findings = check_data(cfg)
        table = Table('', 'data', 'number', 'what')
        for level, split, what, number in findings:
            table.add_row(f'[{COLOURS[level]}]{level}', split, f'{number:,}', what)
        Console(width=None if sys.stdout.isatty() else 160).print(table)
        if args.samples:
            number = write_samples(cfg, args.samples)
            print(f'{number} samples: {args.samples}')
    except (ValueError, OSError) as error:
        sys.exit(f'check_data: {error}')
    errors = sum(finding.level == 'error' for finding in findings)
    print(f'{errors} kinds of error' if errors else 'no error')
    sys.exit(bool(errors))


if __name__ == '__main__':
    main()
