# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Learns DAEC's error-compensation factor for a trained model."""

import argparse
import os
import sys
import warnings
from pathlib import Path

from mmengine.dist import is_main_process
from rich.console import Console

# MMPose and mmcv warn of what they lack for other tasks
warnings.filterwarnings('ignore', module='mm(cv|pose)')

from mmpose_simcc.utils.files import whole_file  # noqa: E402
from mmpose_simcc.utils.inference import load_config  # noqa: E402
from mmpose_simcc.utils.processes import end_forks_with_parent  # noqa: E402
from mmpose_simcc.workbench.calibration import (  # noqa: E402
    calibrate,
    plot_calibration,
    print_report,
)
from mmpose_simcc.workbench.launcher import Launcher, join_processes, leave_processes  # noqa: E402


def parse_args():
    parser = argparse.ArgumentParser(
        description='Learn the error-compensation factor D of DAEC for a '
        'trained heatmap model, or of its 1-D form for a SimCC model, in one '
        'forward pass over the training set. Every D, corner, smoothing and '
        "border is then scored by the config's own metric, fitted on one part of "
        'the images and compared on another. Writes a JSON file for '
        'DAECCodec(delta=FILE) or SimCCCodec(refine="daec", delta=FILE), and '
        'a plot beside it. Interrupted, the same command goes on.',
        epilog='examples: python tools/calibrate_daec.py CONFIG.py '
        'CHECKPOINT.pth; on 4 GPUs the same with --launcher pytorch --gpus 4',
    )
    parser.add_argument(
        'config', metavar='CONFIG', help='config file, or mmpose::... for one of MMPose'
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='weights of the trained model')
    parser.add_argument(
        '--data',
        default='train',
        choices=['train', 'val', 'test'],
        help="which of the config's data (default: train)",
    )
    parser.add_argument(
        '--subset',
        type=int,
        metavar='N',
        help='about N people, of whole images drawn at random (default: all)',
    )
    parser.add_argument(
        '--holdout',
        type=float,
        default=0.2,
        metavar='PART',
        help='part of the images that compares the choices fitted on the '
        'others (default: %(default)s)',
    )
    parser.add_argument(
        '--metric',
        metavar='NAME',
        help="which of the config's metrics decides, such as coco/AP or "
        'PCK@0.1 (default: as for its best checkpoint); it is of at most 2,500 images of each part',
    )
    parser.add_argument(
        '--range',
        type=float,
        nargs=2,
        default=(None, None),
        metavar=('LOW', 'HIGH'),
        dest='bounds',
        help='of D, in cells or bins (default: -2 to half the window)',
    )
    parser.add_argument(
        '--step',
        type=float,
        metavar='S',
        help='between fractional D, 1/n (default: 0.25 cells or 0.5 bins)',
    )
    parser.add_argument(
        '--corner',
        choices=['br', 'ur', 'bl', 'ul'],
        help="cut corner that D is written for (default: the config's, or "
        'br); all four are compared',
    )
    parser.add_argument(
        '--smooth',
        choices=['on', 'off'],
        help="smoothing that D is written for (default: the config's, or off); both are compared",
    )
    parser.add_argument(
        '--border',
        choices=['clip', 'symmetric'],
        help="what the window does at the map's border (default: the config's, or clip); both "
        'are compared',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='the JSON file; the plot lies beside it as .png (default: WORK_DIR/CONFIG.json)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/calibrate'),
        metavar='DIR',
        help='where windows of the forward pass are kept, about 25 kB a '
        'person at sigma 2; the processes share it (default: %(default)s)',
    )
    parser.add_argument(
        '--hash',
        action='store_true',
        help='tell pictures apart by their content, which reads them all (default: by name, size '
        'and modification time)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='pytorch' if 'TORCHELASTIC_RUN_ID' in os.environ else 'none',
        help='MMEngine launcher (default: pytorch under torchrun)',
    )
    parser.add_argument(
        '--gpus',
        type=int,
        default=0,
        metavar='N',
        help='start N processes by the launcher, one for each GPU (default: 0, it has started '
        'this one)',
    )
    parser.add_argument(
        '--srun-args',
        default='',
        metavar='"..."',
        help='further arguments of srun, such as the partition',
    )
    args = parser.parse_args()
    if args.gpus < 0:
        parser.error('--gpus must be at least 0')
    if args.gpus and args.launcher not in ('pytorch', 'slurm'):
        parser.error('--gpus needs --launcher pytorch or slurm')
    return args


def main():
    args = parse_args()
    if args.gpus:  # the launcher takes the place of this process
        launcher = Launcher(args.launcher, args.gpus, args.srun_args)
        command = launcher.command(*sys.argv, '--gpus', '0')
        os.execvp(command[0], command)
    end_forks_with_parent()
    try:
        join_processes(args.launcher)
        calibration = calibrate(
            load_config(args.config),
            args.checkpoint,
            args.work_dir,
            split=args.data,
            subset=args.subset,
            holdout=args.holdout,
            metric=args.metric,
            low=args.bounds[0],
            high=args.bounds[1],
            step=args.step,
            corner=args.corner,
            smooth=None if args.smooth is None else args.smooth == 'on',
            border=args.border,
            hash_pictures=args.hash,
        )
        if not is_main_process():
            leave_processes()
            return
        out = args.out or args.work_dir / f'{Path(args.config).stem}.json'
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as unfinished:
            calibration.save(unfinished)
        plot = plot_calibration(calibration, out.with_suffix('.png'))
    except (ValueError, OSError) as error:
        sys.exit(f'calibrate_daec: {error}')
    except KeyboardInterrupt:
        print('calibrate_daec: interrupted; the same command goes on from here', file=sys.stderr)
        sys.exit(130)
    console = Console()
    console.width = max(console.width, 136)  # of the tables
    print_report(calibration, console)
    console.print(f'\nwritten: {out}\n         {plot}', highlight=False)
    leave_processes()


if __name__ == '__main__':
    main()
