# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Prints the size and the cost of models."""

import torch
from command_line import CONFIG_HELP, CommandLine, errors_in_a_line

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
    with errors_in_a_line():
        device = None if args.no_time else args.device
        records = [measure_size(config, device, args.cfg_options) for config in args.configs]
        print(size_table(records, args.format))


if __name__ == '__main__':
    main()
