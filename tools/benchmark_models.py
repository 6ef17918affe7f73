# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times test loop and forward pass with stock codecs and ours."""

import sys

import benchmark
import torch
from command_line import CommandLine


def parse_args():
    parser = CommandLine(
        'Time whole models with the codecs of this package and of stock MMPose, side by side in '
        'one process. Weights are arbitrary and images noise: neither changes a time.',
        'benchmark_models.py test --rounds 1',
    )
    parser.add_argument(
        'what',
        choices=('test', 'forward'),
        help='test: images of the test loop with stock codecs and ours; '
        'forward: SimCC without deconvolution against the heatmap',
    )
    parser.add_benchmark(rounds=10)
    return parser.parse_args()


def main():
    args = parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit('benchmark_models: --device cuda: no CUDA device is here')
    torch.set_num_threads(args.threads)
    measure = benchmark.end_to_end if args.what == 'test' else benchmark.forward_times
    comparisons = measure(args.device)
    results = benchmark.run_comparisons(comparisons, args.rounds)
    print(benchmark.throughput_table(results))
    if args.json:
        about = benchmark.machine(args.device, args.threads)
        benchmark.save_benchmark(results, about, args.json)


if __name__ == '__main__':
    main()
