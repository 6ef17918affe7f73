# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The command line of the client."""

import argparse
import math
import sys
from pathlib import Path

from .errors import ClientError
from .run import infer


def bbox(text):
    try:
        x, y, w, h = box = tuple(map(float, text.split(',')))
    except ValueError:
        box = ()
    if not (box and all(map(math.isfinite, box)) and w > 0 and h > 0):
        raise argparse.ArgumentTypeError(f'{text!r} is not x,y,w,h in pixels with w and h > 0')
    return box


def make_parser():
    parser = argparse.ArgumentParser(
        description='Find the keypoints of people with a model that '
        'tools/export_onnx.py has written. Writes pictures or a video with '
        "skeletons, and predictions.json in COCO's format.",
        epilog='example: %(prog)s model.onnx photo.jpg --bbox 40,20,180,400',
    )
    parser.add_argument('model', metavar='MODEL', help='the ONNX file')
    parser.add_argument(
        'source', metavar='IMAGE|FOLDER|VIDEO', help='a picture, a folder of pictures, or a video'
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
        'as MMDeploy writes it for YOLOX',
    )
    parser.add_argument(
        '--out',
        default='work_dirs/infer_onnx',
        metavar='DIR',
        help='folder to write to (default: %(default)s)',
    )
    return parser


def main():
    parser = make_parser()
    args = parser.parse_args()
    name = Path(parser.prog).stem
    try:
        unreadable = infer(args.model, args.source, args.out, args.bbox, args.det)
    except KeyboardInterrupt:
        sys.exit(f'{name}: interrupted')
    except (ClientError, OSError) as error:
        sys.exit(f'{name}: {error}')
    print(f'written to {args.out}')
    if unreadable:
        sys.exit(f'{name}: {len(unreadable)} pictures could not be read: {", ".join(unreadable)}')
