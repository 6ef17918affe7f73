# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Converts published weights to an MMPose checkpoint."""

import argparse
import sys

from mmpose_simcc.weights import (
    check_config,
    convert_official,
    identify,
    load_weights,
    save_checkpoint,
)


def parse_args():
    parser = argparse.ArgumentParser(
        description='Convert weights published by the repositories of '
        'SimpleBaseline, HRNet, DARK, DAEC, SimCC and TokenPose to an MMPose '
        'checkpoint. The architecture is recognised from the weights.',
        epilog='example: python tools/convert_official.py pose_hrnet_w48_256x192.pth hrnet.pth',
    )
    parser.add_argument('src', metavar='SRC.pth', help='published weights')
    parser.add_argument('dst', metavar='DST.pth', help='file to write')
    parser.add_argument(
        '--config',
        metavar='CFG',
        help='load the result into the model of this config, and fail if '
        'anything is missing or left over',
    )
    return parser.parse_args()


def convert(src, dst, config):
    weights = load_weights(src)
    official = identify(weights)
    converted = convert_official(weights)
    print(f'{src}: {official.name}, {len(weights)} entries')
    for note in official.notes:
        print(f'note: {note}')
    print(f'images: {official.data_preprocessor}')
    if config:
        differences = check_config(config, converted, official)
        print(f'{config}: all weights fit')
        for difference in differences:
            print(f'warning: {config}: {difference}')
    save_checkpoint(dst, converted, official)
    print(f'wrote {dst}, {len(converted)} entries')


def main():
    args = parse_args()
    try:
        convert(**vars(args))
    except (ValueError, OSError) as error:
        print(f'convert_official: {error}', file=sys.stderr)
        sys.exit(1)


if __name__ == '__main__':
    main()
