# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Calibrates a trained model: decoder, flip test, offset, scores and radii."""

import sys
from pathlib import Path

from command_line import CommandLine, errors_in_a_line

from mmpose_simcc.codecs.calibration import INSTANCE_SCORES
from mmpose_simcc.utils.files import whole_file
from mmpose_simcc.workbench.calibration import calibrate, summary, tables
from mmpose_simcc.workbench.calibration.calibrate import SPLITS
from mmpose_simcc.workbench.compare.runs import read_config


def parse_args():
    parser = CommandLine(
        'Find how the outputs of a trained model are decoded best, in one forward '
        'pass over annotated pictures: the decoder, the flip test (where the config has one), an '
        'offset, what scores are worth, and the radii that hold the truth. Each is fitted on one '
        'half of the pictures and kept only where the other half supports it. Writes a JSON file '
        'for `calibration` of any codec of mmpose_simcc.',
        'calibrate.py CONFIG CHECKPOINT --split test --out decoder.json',
    )
    parser.add_config()
    parser.add_checkpoint()
    parser.add_data()
    parser.add_cfg_options()
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('decoder.json'),
        metavar='FILE',
        help='the JSON file that is written (default: %(default)s)',
    )
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument(
        '--split',
        default='hold_out',
        choices=SPLITS,
        help='the fifth of the training images that is left out where a model is trained with a '
        "hold-out, the config's test data, or all of its training data; by annotated boxes "
        '(default: %(default)s)',
    )
    pictures.add_argument(
        '--ann-file', type=Path, metavar='FILE', help='other pictures in the training folder'
    )
    parser.add_argument(
        '--people',
        type=int,
        metavar='N',
        help='about N people, of whole pictures drawn at random (default: as many as have '
        '40,000 keypoints)',
    )
    parser.add_argument(
        '--instance-score',
        default=INSTANCE_SCORES[0],
        choices=INSTANCE_SCORES,
        help="a person's score: the box's times the mean of the keypoints' (MMPose's rule), or "
        'their mean alone (default: %(default)s)',
    )
    parser.add_work_dir('calibrate', 'annotations that are split or drawn')
    args = parser.parse_args()
    if args.out.suffix != '.json':
        parser.error(f'--out {args.out} must end in .json')
    return args


def main():
    args = parse_args()
    with errors_in_a_line():
        cfg = read_config(args.config, args.cfg_options, args.data)
        found = calibrate(
            cfg,
            args.checkpoint,
            args.work_dir,
            split=args.split,
            ann_file=args.ann_file,
            people=args.people,
            instance_score=args.instance_score,
        )
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(args.out) as unfinished:
            found.save(unfinished)
    for table in tables(found):
        print(f'{table}\n')
    pictures, worth = found.content['calibrated_on'], found.content['worth']
    print(f'calibrated on {pictures}; a score is the expectation of: {worth}')
    for title, kept in summary(found):
        print(f'{title}: {kept}')
    for note in found.notes:
        print(f'note: {note}')
    if found.seen:
        print(
            'calibrate: the config trains on these pictures, on which a model does better than on '
            'others: scores will be too high and radii too small. Give --split or --ann-file of '
            "others, or train with the hold-out's *-kept.json as "
            'train_dataloader.dataset.ann_file',
            file=sys.stderr,
        )
    print(
        f'written: {args.out}; use it with --cfg-options model.type=CalibratedPoseEstimator '
        f'model.head.decoder.calibration={args.out}'
    )


if __name__ == '__main__':
    main()
