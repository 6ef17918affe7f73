# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Brings annotations of SLEAP, DeepLabCut, YOLO-pose and others to MMPose."""

from command_line import CommandLine, errors_in_a_line

from mmpose_simcc.workbench.data import import_data


def parse_args():
    parser = CommandLine(
        'Write annotations of SLEAP, DeepLabCut, YOLO-pose, Label Studio, NWB or COCO '
        "in COCO's layout, with metainfo and two configs that train on them: "
        'heatmap.py (DARK) and simcc.py.',
        'import_data.py labels.slp data/mine',
    )
    parser.add_argument('source', metavar='SOURCE', help='file or folder of the annotations')
    parser.add_argument('out', metavar='OUT', help='new or empty folder')
    parser.add_argument(
        '--images',
        metavar='DIR',
        help='folder of the pictures of a COCO or Label Studio file (default: that of the file)',
    )
    parser.add_argument(
        '--val',
        type=float,
        default=0.2,
        metavar='PART',
        help='part of the pictures to validate on, where the source has no such part '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        metavar='S',
        help='of the random split (default: %(default)s)',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    with errors_in_a_line():
        try:
            report = import_data(**vars(args))
        except ImportError as error:
            raise ImportError(f'{error}: pip install sleap-io') from error
    for split, pictures in report['pictures'].items():
        print(f'{split}: {pictures} pictures, {report["people"][split]} annotated')
    pairs = ', '.join(f'{a} - {b}' for a, b in report['pairs'])
    pairs = pairs or f'none (if there are two sides, say so in {args.out}/metainfo.py)'
    print(f'{len(report["keypoints"])} keypoints; a mirrored picture swaps: {pairs}')
    width, height = report['input_size']
    print(f'configs: {args.out}/heatmap.py and {args.out}/simcc.py, input {width}x{height}')
    print(f'next: python tools/check_data.py {args.out}/heatmap.py')


if __name__ == '__main__':
    main()
