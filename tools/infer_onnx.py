# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds keypoints with an exported model; needs no torch and no MMPose."""

import argparse
import math
import sys
import types
from importlib.util import find_spec

# Only the client: the package itself would import torch and MMPose.
spec = find_spec('mmpose_simcc')
if spec is None:
    sys.exit('infer_onnx: mmpose_simcc is not installed')
package = types.ModuleType('mmpose_simcc')
package.__path__ = spec.submodule_search_locations
sys.modules['mmpose_simcc'] = package

from mmpose_simcc.deploy.client import ClientError, infer  # noqa: E402


def bbox(text):
    try:
        x, y, w, h = box = tuple(map(float, text.split(',')))
    except ValueError:
        box = ()
    if not (box and all(map(math.isfinite, box)) and w > 0 and h > 0):
        raise argparse.ArgumentTypeError(f'{text!r} is not x,y,w,h in pixels with w and h > 0')
    return box


def parse_args():
    parser = argparse.ArgumentParser(
        description='Find the keypoints of people with a model that '
        'tools/export_onnx.py has written. Writes pictures or a video with '
        "skeletons, and predictions.json in COCO's format.",
        epilog='example: python tools/infer_onnx.py model.onnx photo.jpg --bbox 40,20,180,400',
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
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        unreadable = infer(args.model, args.source, args.out, args.bbox, args.det)
    except (ClientError, OSError) as error:
        sys.exit(f'infer_onnx: {error}')
    print(f'written to {args.out}')
    if unreadable:
        sys.exit(
            f'infer_onnx: {len(unreadable)} pictures could not be read: {", ".join(unreadable)}'
        )


if __name__ == '__main__':
    main()
