# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The command line of the client."""

import argparse
import math
import sys
from pathlib import Path

from . import __version__
from .detector import DETECTOR_INPUTS, PersonDetector
from .errors import ClientError
from .pose import PoseSession
from .run import infer
from .session import make_options
from .smooth import Smoother


def bbox(text):
    try:
        x, y, w, h = box = tuple(map(float, text.split(',')))
    except ValueError:
        box = ()
    if not (box and all(map(math.isfinite, box)) and w > 0 and h > 0):
        raise argparse.ArgumentTypeError(f'{text!r} is not x,y,w,h in pixels with w and h > 0')
    return box


def setting(text):
    key, equals, value = text.partition('=')
    if not (key and equals):
        raise argparse.ArgumentTypeError(f'{text!r} is not KEY=VALUE')
    return key, value


def make_parser():
    parser = argparse.ArgumentParser(
        description='Find the keypoints of people with a model that '
        'tools/export_onnx.py has written. Writes pictures or a video with '
        "skeletons, and all keypoints into predictions.json, in COCO's format.",
        epilog='example: %(prog)s model.onnx photo.jpg --bbox 40,20,180,400',
    )
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument('model', metavar='MODEL', help='the ONNX file')
    parser.add_argument(
        'source',
        metavar='IMAGE|FOLDER|VIDEO|URL|CAMERA',
        help="a picture, a folder of pictures, a video, a stream's URL, or a camera's number; "
        'Ctrl-C ends the last two',
    )
    people = parser.add_mutually_exclusive_group()
    people.add_argument(
        '--bbox',
        nargs='+',
        type=bbox,
        metavar='x,y,w,h',
        help='boxes around the people in pixels (default: one person fills the picture)',
    )
    people.add_argument(
        '--det',
        metavar='MODEL',
        help='ONNX file of a person detector with outputs dets (and labels), '
        'as MMDeploy writes it for YOLOX and RTMDet',
    )
    parser.add_argument(
        '--det-input',
        choices=DETECTOR_INPUTS,
        help="how the detector's input is normalised (default: as MMDeploy's pipeline.json "
        'beside it says)',
    )
    parser.add_argument(
        '--det-score-thr',
        type=float,
        default=0.3,
        metavar='SCORE',
        help='people with a lower score are left out (default: %(default)s)',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        metavar='SCORE',
        help='keypoints with a lower score are not drawn (default: %(default)s)',
    )
    parser.add_argument(
        '--circles',
        action='store_true',
        help='draw around each keypoint the circle in which it lies with probability 0.9 (for '
        'calibrated models)',
    )
    parser.add_argument(
        '--smooth',
        action='store_true',
        help='reduce jitter in a video: follow people by their boxes and smooth their keypoints',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=32,
        metavar='N',
        help='largest number of people that go through the network at once (default: %(default)s)',
    )
    parser.add_argument(
        '--providers',
        nargs='+',
        metavar='NAME',
        help="onnxruntime's execution providers (default: CUDA where it is available, else CPU)",
    )
    parser.add_argument(
        '--threads',
        type=int,
        metavar='N',
        help='threads that the network runs on, on a CPU (default: one for each core)',
    )
    parser.add_argument(
        '--session-option',
        nargs='+',
        type=setting,
        default=[],
        metavar='KEY=VALUE',
        help="settings of onnxruntime's session, by their names in its documentation",
    )
    parser.add_argument(
        '--out',
        default='work_dirs/infer_onnx',
        metavar='DIR',
        help='folder to write to (default: %(default)s)',
    )
    return parser


def run(args):
    """Do what the arguments say; the pictures that could not be read."""
    runtime = dict(
        providers=args.providers,
        threads=args.threads,
        session_options=make_options(dict(args.session_option)),
    )
    session = PoseSession(args.model, args.batch_size, **runtime)
    detect = None
    if args.det:
        detect = PersonDetector(args.det, args.det_score_thr, args.det_input, **runtime)
    smoother = Smoother() if args.smooth else None
    people = args.bbox, detect
    return infer(
        session, args.source, args.out, *people, args.score_thr, smoother, circles=args.circles
    )


def main():
    parser = make_parser()
    args = parser.parse_args()
    name = Path(parser.prog).stem
    try:
        unreadable = run(args)
    except KeyboardInterrupt:
        sys.exit(f'{name}: interrupted')
    except (ClientError, OSError) as error:
        sys.exit(f'{name}: {error}')
    print(f'written to {args.out}')
    if unreadable:
        sys.exit(f'{name}: could not be read: {", ".join(unreadable)}')
