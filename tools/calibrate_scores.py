# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Learns what the scores of a trained model are worth."""

import argparse
import sys
import warnings
from pathlib import Path

# MMPose and mmcv warn of what they lack for other tasks
warnings.filterwarnings('ignore', module='mm(cv|pose)')

from mmengine.config import DictAction  # noqa: E402

from mmpose_simcc.utils.files import whole_file  # noqa: E402
from mmpose_simcc.workbench.compare import CompareError  # noqa: E402
from mmpose_simcc.workbench.compare.data import use_data  # noqa: E402
from mmpose_simcc.workbench.compare.runs import read_config  # noqa: E402
from mmpose_simcc.workbench.compare.score_calibration import calibrate_scores  # noqa: E402


def parse_args():
    parser = argparse.ArgumentParser(
        description='Learn a map from the score of a keypoint to its expected similarity to the '
        'truth (OKS, or the probability that it is not off by more than t), in one forward pass '
        'over pictures that the model was not trained on. Writes a JSON file for '
        '`score_calibration` of the codec. Keypoints do not change.',
        epilog='example: python tools/calibrate_scores.py CONFIG.py CHECKPOINT.pth --data test '
        '--out scores.json',
    )
    parser.add_argument(
        'config', metavar='CONFIG', help='config file, or mmpose::... for one of MMPose'
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='weights of the trained model')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='the JSON file that is written'
    )
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument(
        '--data',
        default='hold_out',
        choices=['hold_out', 'test'],
        help='the fifth of the training images that is left out where a model is trained with a '
        "hold-out, or the config's test data, by annotated boxes (default: %(default)s)",
    )
    pictures.add_argument(
        '--ann-file', type=Path, metavar='FILE', help='other pictures in the training folder'
    )
    parser.add_argument(
        '--data-root',
        metavar='ROOT',
        help='folder in place of `data_root` in the config (default: as in the config)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='NAME=VALUE',
        help='changes of the config, such as model.head.decoder.type=DARKCodec',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/calibrate_scores'),
        metavar='DIR',
        help='where the annotations of a hold-out go (default: %(default)s)',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        cfg = read_config(args.config)
        if args.data_root:
            use_data(cfg, args.data_root)
        cfg.merge_from_dict(args.cfg_options)
        found = calibrate_scores(cfg, args.checkpoint, args.work_dir, args.data, args.ann_file)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(args.out) as unfinished:
            found.save(unfinished)
    except (CompareError, ValueError, OSError) as error:
        sys.exit(f'calibrate_scores: {error}')
    print(f'calibrated on {found.calibrated_on}; a score is the expectation of: {found.similarity}')
    for name, values in (('as they are', found.raw), ('calibrated, by 5 folds', found.calibrated)):
        shown = ', '.join(f'{key} {value:.4f}' for key, value in values.items())
        print(f'scores {name}: {shown}')
    own = len(found.knots) - len(found.shared)
    print(
        f'{own} of {len(found.knots)} keypoints have a map of their own; others share one: they '
        'are too few, or theirs would gain nothing on other pictures'
    )
    if found.seen:
        print(
            'calibrate_scores: the config trains on these pictures, on which a model does better '
            'than on others: scores will be too high. Give --data or --ann-file of others, or '
            "train with the hold-out's *-kept.json as train_dataloader.dataset.ann_file",
            file=sys.stderr,
        )
    decoder = 'model.head.decoder'
    print(
        f'written: {args.out}; use it with --cfg-options {decoder}.type='
        f'{type(found.codec).__name__} {decoder}.score_calibration={args.out}'
    )


if __name__ == '__main__':
    main()
