# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Compares keypoint heads and decoders on data."""
import argparse
import signal
import sys
import warnings
from pathlib import Path

from rich.console import Console

# MMPose and mmcv warn of what they lack for other tasks
warnings.filterwarnings('ignore', module='mm(cv|pose)')

from mmpose_simcc.lab import LabError, Launcher, compare, load_run  # noqa: E402
from mmpose_simcc.lab.compare import name_apart  # noqa: E402
from mmpose_simcc.lab.decoders import decoder_names  # noqa: E402
from mmpose_simcc.lab.plots import plot_decoders, plot_samples  # noqa: E402
from mmpose_simcc.lab.tables import print_table, write_tables  # noqa: E402
from mmpose_simcc.toy import make_toy_coco  # noqa: E402

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'
TOY_CONFIGS = [
    str(CONFIGS / 'body_2d_keypoint' / name) for name in (
        'topdown_heatmap/toy_coco/td-hm_res18_1xb32-6e_toy-coco-64x64.py',
        'topdown_heatmap/toy_coco/td-hm_res18_dark-1xb32-6e_toy-coco-64x64.py',
        'simcc/toy_coco/simcc_res18_1xb32-6e_toy-coco-64x64.py')
]
TOY_ROOT = 'data/toy_coco'
TOY_DATA = dict(train=1500, val=300, seed=0)


def parse_args():
    parser = argparse.ArgumentParser(
        description='Compare keypoint heads and decoders: train each config '
        'that has no checkpoint, decode its outputs on the test data by '
        'every decoder from one forward pass, and write a model-zoo table '
        '(Markdown, CSV, JSON) and plots. Whatever was done before with the '
        'same config, checkpoint and data is not computed again, and an '
        'interrupted training goes on.',
        epilog='examples: '
        '`python tools/compare.py` trains heatmap, DARK and SimCC models on '
        'drawn people; '
        '`python tools/compare.py A.py B.py=b.pth --data data/coco` trains A, '
        'takes B as it is, and evaluates both on COCO.')
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='CONFIG[=CHECKPOINT]',
        help='top-down configs, each with a checkpoint or to be trained '
        '(default: heatmap, DARK and SimCC with ResNet-18 at 64x64)')
    parser.add_argument(
        '--data',
        metavar='ROOT',
        help='folder in place of the configs\' `data_root`, laid out like '
        f'COCO 2017 (default: as in the configs; {TOY_ROOT} is drawn when '
        'no config is given)')
    parser.add_argument(
        '--decoders',
        nargs='+',
        metavar='NAME',
        choices=decoder_names(),
        help=f'some of: {", ".join(decoder_names())} (default: all for '
        'heatmaps, argmax for SimCC, which knows dark and daec as well)')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/compare'),
        metavar='DIR',
        help='where results go and are found again (default: %(default)s)')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='MMEngine launcher that starts the trainings')
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        metavar='N',
        help='processes of a launched training, one for each GPU')
    parser.add_argument(
        '--srun-args',
        default='',
        metavar='"..."',
        help='further arguments of srun, such as the partition')
    return parser.parse_args()


def main():
    args = parse_args()
    console = Console()
    # a killed comparison takes its training with it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if not args.configs and not args.data:
            make_toy_coco(TOY_ROOT, **TOY_DATA)
        runs = [
            load_run(spec, args.data) for spec in args.configs or TOY_CONFIGS
        ]
        name_apart(runs)
        rows = compare(runs, args.work_dir, args.decoders,
                       Launcher(args.launcher, args.gpus, args.srun_args))
        paths = write_tables(rows, args.work_dir)
        paths.append(plot_decoders(rows, args.work_dir / 'decoders.png'))
        paths.append(plot_samples(rows, runs, args.work_dir / 'samples.png'))
    except (LabError, FileExistsError) as error:
        print(f'compare: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('compare: interrupted; the same command goes on from here',
              file=sys.stderr)
        sys.exit(130)
    print_table(rows, console)
    console.print('\nwritten: ' + '\n         '.join(map(str, paths)),
                  highlight=False)


if __name__ == '__main__':
    main()
