# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Converts published weights to an MMPose checkpoint."""

from command_line import CommandLine, errors_in_a_line

from mmpose_simcc.weights import (
    SOURCES,
    check_model,
    convert_efficientnet_lite0,
    convert_official,
    identify,
    is_efficientnet_lite0,
    load_weights,
    save_checkpoint,
    save_weights,
)


def parse_args():
    parser = CommandLine(
        'Convert weights published by the repositories of SimpleBaseline, HRNet, DARK, SimCC and '
        'TokenPose to an MMPose checkpoint. The architecture is recognised from the weights.',
        'convert_official.py pose_hrnet_w48_256x192.pth hrnet.pth --source hrnet',
    )
    parser.add_argument('src', metavar='SRC.pth', help='published weights')
    parser.add_argument('dst', metavar='DST.pth', help='file to write')
    parser.add_argument(
        '--source',
        choices=SOURCES,
        help='the repository that published the weights, needed for heatmap models on ResNet and '
        "HRNet: DARK's code cuts pictures out otherwise than SimpleBaseline's and HRNet's",
    )
    parser.add_argument(
        '--keypoints',
        type=int,
        metavar='K',
        help='number of keypoints of SimCC without deconvolutions, where the shapes fit several',
    )
    parser.add_argument(
        '--config',
        metavar='CONFIG',
        help='load the result into the model of this config, and fail if anything is missing or '
        'left over (default: not checked)',
    )
    return parser.parse_args()


def convert(src, dst, source, keypoints, config):
    weights = load_weights(src)
    if is_efficientnet_lite0(weights):  # a backbone alone
        converted = convert_efficientnet_lite0(weights)
        save_weights(dst, converted, dict(converted_from='EfficientNet-Lite0, ImageNet'))
        print(f'{src}: EfficientNet-Lite0, the backbone of {len(weights)} entries')
        print(f'wrote {dst}, {len(converted)} entries')
        return
    official = identify(weights, source, keypoints)
    converted = convert_official(weights, keypoints)
    print(f'{src}: {official.name}, {len(weights)} entries')
    for note in official.notes:
        print(f'note: {note}')
    print(f'images: {official.data_preprocessor}')
    print(f'crops: TopdownAffine(use_udp={official.use_udp})')
    if config:
        differences = check_model(config, converted, official)
        print(f'{config}: all weights fit')
        for difference in differences:
            print(f'warning: {config}: {difference}')
    save_checkpoint(dst, converted, official)
    print(f'wrote {dst}, {len(converted)} entries')


def main():
    args = parse_args()
    with errors_in_a_line():
        convert(**vars(args))


if __name__ == '__main__':
    main()
