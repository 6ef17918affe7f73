# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times test loop and forward pass with stock codecs and ours."""

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
    torch.set_num_threads(args.threads)
    if args.what == 'test':
        comparisons = benchmark.test_loop_comparisons(args.device)
    else:
        comparisons = [benchmark.forward_comparison(args.device)]
    benchmark.time_comparisons(comparisons, args.rounds)
    print(benchmark.throughput_table(comparisons))


if __name__ == '__main__':
    main()
