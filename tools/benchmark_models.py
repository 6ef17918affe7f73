# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Times test loop and forward pass with stock codecs and ours."""

import argparse
import sys
from pathlib import Path

import benchmark
import torch


def parse_args():
    parser = argparse.ArgumentParser(
        description='What the codecs mean to whole models, side by side in '
        'one process. Weights are arbitrary and images noise: neither '
        'changes a time.'
    )
    parser.add_argument(
        'what',
        choices=('test', 'forward'),
        help='test: images of the test loop with stock codecs and ours; '
        'forward: SimCC without deconvolution against the heatmap',
    )
    parser.add_argument('--json', type=Path, help='write every time here')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default: 1)')
    parser.add_argument('--rounds', type=int, default=10, help='default: 10')
    args = parser.parse_args()
    for name in ('threads', 'rounds'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    return args


def main():
    args = parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit('benchmark_models: --device cuda: no CUDA device is here')
    torch.set_num_threads(args.threads)
    measure = benchmark.end_to_end if args.what == 'test' else benchmark.forward_times
    comparisons = measure(args.device)
    results = benchmark.run_comparisons(comparisons, args.device, args.rounds)
    print(benchmark.throughput_table(results))
    if args.json:
        about = benchmark.machine(args.device, args.threads)
        benchmark.save_benchmark(results, about, args.json)


if __name__ == '__main__':
    main()
