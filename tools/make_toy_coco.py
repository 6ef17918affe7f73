# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Draws a toy data set of people in COCO's layout."""

from command_line import CommandLine, at_least, errors_in_a_line

from mmpose_simcc.workbench.toy import make_toy_coco


def parse_args():
    parser = CommandLine(
        'Draw images of people with exact COCO keypoint annotations, laid out like COCO 2017, so '
        'that a COCO config runs on them with another data_root. The same arguments give the same '
        'bytes; a finished folder is left as it is.',
        'make_toy_coco.py data/toy --train 3000 --val 500 --seed 0',
    )
    parser.add_argument('out', metavar='OUT', help='new or empty folder')
    for name, default, low, what in (
        ('train', 3000, 1, 'training images of 1 to 3 people'),
        ('val', 500, 1, 'validation images'),
        ('seed', 0, 0, 'image i of a split depends on the seed and i alone'),
    ):
        parser.add_argument(
            f'--{name}',
            type=at_least(low),
            default=default,
            metavar='N',
            help=f'{what} (default: %(default)s)',
        )
    parser.add_argument(
        '--workers', type=at_least(1), metavar='N', help='drawing processes (default: one a core)'
    )
    return parser.parse_args()


def main():
    args = vars(parse_args())
    with errors_in_a_line():
        drawn = make_toy_coco(**args)
        print(f'{args["out"]} is complete' if drawn else f'{args["out"]} was complete already')


if __name__ == '__main__':
    main()
