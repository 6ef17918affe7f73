# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times the codecs and the SimCC loss against stock MMPose."""

import os
import sys
from pathlib import Path

from command_line import CommandLine


def parse_args():
    parser = CommandLine(
        'Time encoding, decoding and the SimCC loss of this package against stock MMPose and '
        'against one read of the same maps, side by side in one process. Checks first that the '
        'answers agree. Ratios carry over to other machines, microseconds do not.',
        'benchmark_codecs.py --json times.json --plot ratios.png',
    )
    parser.add_benchmark(rounds=20)
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw the ratios here')
    parser.add_argument(
        '--check',
        action='store_true',
        help='a short run that fails if less than a third of an aim is reached',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    # read when the libraries are loaded
    for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
        os.environ[name] = str(args.threads)
    import benchmark
    import cv2
    import torch

    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit('benchmark_codecs: --device cuda: no CUDA device is here')
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    if args.check:
        sys.exit(check(benchmark, args.rounds))
    results = benchmark.run_comparisons(
        benchmark.codec_comparisons(args.device) + benchmark.loss_comparisons(args.device),
        args.rounds,
    )
    benchmark.add_peak_bytes(results, args.device)
    print(benchmark.benchmark_table(results))
    about = benchmark.machine(args.device, args.threads)
    if args.json:
        benchmark.save_benchmark(results, about, args.json)
    if args.plot:
        benchmark.plot_benchmark(results, args.plot)


def check(benchmark, rounds) -> int:
    comparisons = [
        c for c in benchmark.codec_comparisons(settings=benchmark.SETTINGS[:1]) if c.aim is not None
    ]
    results = benchmark.run_comparisons(comparisons, rounds=rounds)
    print(benchmark.benchmark_table(results))
    slow = [r for r in results if r.reached() < 1 / 3]
    for r in slow:
        print(f'benchmark_codecs: {r.task}, {r.method}: less than a third of its aim')
    return 1 if slow else 0


if __name__ == '__main__':
    main()
