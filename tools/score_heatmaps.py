# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Scores decoders on recorded heatmaps."""

from pathlib import Path

from command_line import CommandLine, errors_in_a_line
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from mmpose_simcc.functional.flip import FLIPS
from mmpose_simcc.workbench.calibration import coverage_table, step_table, tune
from mmpose_simcc.workbench.recorded import load_recording, score_decoders


def parse_args():
    parser = CommandLine(
        'Score decoders on recorded heatmaps of any model: mean OKS, its difference '
        'to the quarter shift with a 95% interval, and the median offset from the truth, as a '
        'Markdown table. The factors of DAEC are fixed, or learned on one half of the images and '
        'scored on the other.',
        'score_heatmaps.py RECORDING.npz --size 16',
    )
    parser.add_argument(
        'recording',
        type=Path,
        metavar='FILE.npz',
        help='heatmaps (N, K, H, W), keypoints_cells (N, K, 2), visible (N, K), pixels_per_cell '
        '(N,), area (N,), and img_id (N,) where people share images; with mirrored_heatmaps and '
        'flip_indices (K,) the flip test is made here',
    )
    parser.add_argument(
        '--flip',
        choices=FLIPS,
        default='exact',
        help='the flip test of mirrored_heatmaps; stock is of images that are reversed, exact of '
        'those that are also moved right by a pixel (default: %(default)s)',
    )
    parser.add_argument(
        '--udp', action='store_true', help='the images were cut out with TopdownAffine(use_udp)'
    )
    parser.add_argument(
        '--sigma',
        type=float,
        default=2,
        metavar='CELLS',
        help='standard deviation of the labels in heatmap cells (default: %(default)s)',
    )
    parser.add_argument(
        '--keypoints',
        default='coco',
        metavar='NAME',
        help="MMPose's file of the keypoints, configs/_base_/datasets/NAME.py, for the constants "
        'of OKS (default: %(default)s)',
    )
    parser.add_argument(
        '--size',
        type=int,
        metavar='CELLS',
        help='cut a square of so many cells out of every map, at a random place around its '
        'maximum, to see what the border of a small map does',
    )
    parser.add_argument(
        '--ladder', action='store_true', help='go up the ladder of tools/calibrate.py, too'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    with errors_in_a_line():
        file = f'configs/_base_/datasets/{args.keypoints}.py'
        oks_sigmas = parse_pose_metainfo(dict(from_file=file))['sigmas']
        samples = load_recording(
            args.recording, oks_sigmas, args.sigma, args.size, args.flip, args.udp
        )
        print(score_decoders(samples))
        if args.ladder:
            _, tried, covered = tune(samples)
            for step, trials in tried:
                print(f'\n{step_table(step, trials)}')
            print(f'\n{coverage_table(covered)}')


if __name__ == '__main__':
    main()
