# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Prints the size and the cost of models."""

import torch
from command_line import CONFIG_HELP, CommandLine, device, errors_in_a_line

from mmpose_simcc.workbench.complexity import FORMATS, measure_size, size_table


def parse_args():
    parser = CommandLine(
        'Print parameters, GFLOPs by the count of the papers and by the true count, activations '
        'and forward time of top-down models. No weights are needed or downloaded.',
        'model_size.py A.py B.py --format markdown --no-time',
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help=CONFIG_HELP)
    parser.add_cfg_options()
    parser.add_argument(
        '--format',
        choices=FORMATS,
        default=FORMATS[0],
        help='what is printed (default: %(default)s)',
    )
    parser.add_argument(
        '--device',
        type=device,
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where to time the forward pass (default: cuda if there is, else cpu)',
    )
    parser.add_argument('--no-time', action='store_true', help='do not time the forward pass')
    return parser.parse_args()


def main():
    args = parse_args()
    with errors_in_a_line():
        timed_on = None if args.no_time else args.device
        records = [measure_size(config, timed_on, args.cfg_options) for config in args.configs]
        print(size_table(records, args.format))


if __name__ == '__main__':
    main()
