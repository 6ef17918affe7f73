# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Writes a trained model as an ONNX file."""

import sys
from importlib.util import find_spec

from command_line import CommandLine, at_least, errors_in_a_line

missing = [name for name in ('onnx', 'onnxruntime', 'onnxslim') if not find_spec(name)]
if missing:
    sys.exit(
        f'export_onnx: not installed: {", ".join(missing)}. pip install '
        '"mmpose_simcc[onnx-cpu]", or [onnx-gpu] for onnxruntime-gpu'
    )

# ruff: noqa: E402
from mmpose_simcc.deploy.export import INPUTS, OUTPUTS, PRECISIONS, export_onnx
from mmpose_simcc.utils.inference import build_model, load_weights
from mmpose_simcc.workbench.compare import CompareError, Run
from mmpose_simcc.workbench.compare.data import use_annotated_boxes
from mmpose_simcc.workbench.compare.runs import read_config


def parse_args():
    parser = CommandLine(
        'Write a model of this package or of MMPose (heatmap, SimCC and RTMPose-style heads) as '
        'ONNX with a dynamic batch. The file is checked and compared with PyTorch before it '
        'appears, and carries all that a client needs to know, as OUT.json beside it does.',
        'export_onnx.py CONFIG CHECKPOINT model.onnx --input bgr',
    )
    parser.add_config()
    parser.add_checkpoint()
    parser.add_argument('out', metavar='OUT.onnx', help='file to write')
    parser.add_argument(
        '--output',
        choices=OUTPUTS,
        help='simcc: vectors simcc_x and simcc_y for clients of RTMPose, with '
        'maxima in (0, 1]. keypoints: decoded in the graph, keypoints in '
        'input pixels and scores. raw: heatmaps or logits as the head gives '
        'them, for runtimes that cannot decode (default: simcc for SimCC '
        'models, else keypoints)',
    )
    parser.add_argument(
        '--input',
        choices=INPUTS,
        default='float',
        help='float: (B, 3, h, w), normalised, RGB. bgr: as rtmlib '
        'normalises BGR pixels. uint8: a plain crop as OpenCV reads it, '
        '(B, h, w, 3) (default: %(default)s)',
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='fp32',
        help='fp16 and int8 (calibrated on training images) are evaluated '
        'beside fp32 on the test data, fp16 on made-up pictures where there '
        'are none (default: %(default)s)',
    )
    parser.add_argument(
        '--batch',
        type=at_least(1),
        metavar='N',
        help='the one batch size that the file takes, for runtimes that need to know it '
        '(default: any)',
    )
    parser.add_data()
    parser.add_cfg_options()
    return parser.parse_args()


def has_test_data(args, cfg):
    """Whether a model in another precision can be evaluated. int8 is not written unevaluated."""
    try:
        Run(args.config, cfg).check_data('test')
    except CompareError as error:
        if args.precision == 'int8' or args.data:
            raise
        print(f'not evaluated: {error}')
        return False
    return True


def main():
    args = parse_args()
    with errors_in_a_line():
        cfg = read_config(args.config, args.cfg_options, args.data)
        use_annotated_boxes(cfg)  # for the comparison of precisions
        evaluate = args.precision != 'fp32' and has_test_data(args, cfg)
        if args.precision == 'int8':
            Run(args.config, cfg).check_data('train')
        model = build_model(cfg)
        load_weights(model, args.checkpoint)
        export_onnx(
            model, cfg, args.out, args.input, args.output, args.precision, args.batch, evaluate
        )


if __name__ == '__main__':
    main()
