# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times the codecs against stock MMPose."""

import sys
from pathlib import Path

import benchmark
import cv2
import torch
from command_line import CommandLine


def parse_args():
    parser = CommandLine(
        'Time encoding and decoding of this package against stock MMPose and against one read of '
        'the same maps, side by side in one process. Checks first that the answers agree. Ratios '
        'carry over to other machines, microseconds do not.',
        'benchmark_codecs.py --rounds 12 --plot ratios.png',
    )
    parser.add_benchmark(rounds=20)
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw the ratios here')
    parser.add_argument(
        '--check',
        action='store_true',
        help='what has an aim alone; fail if less than a third of one is reached',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    comparisons = benchmark.codec_comparisons(args.device)
    if args.check:
        comparisons = [comparison for comparison in comparisons if comparison.aim]
    benchmark.time_comparisons(comparisons, args.rounds)
    print(benchmark.benchmark_table(comparisons))
    if args.plot:
        benchmark.plot_benchmark(comparisons, args.plot)
    if args.check:
        slow = [c for c in comparisons if c.reached() < 1 / 3]
        for c in slow:
            print(f'benchmark_codecs: {c.task}, {c.method}: less than a third of its aim')
        sys.exit(bool(slow))


if __name__ == '__main__':
    main()
