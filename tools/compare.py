# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Compares keypoint heads and decoders on data."""

import contextlib
import signal
import sys
from pathlib import Path

from command_line import CommandLine, at_least, errors_in_a_line
from mmengine.config import DictAction
from rich.console import Console
from rich.markup import escape

from mmpose_simcc.utils.processes import end_forks_with_parent, locked
from mmpose_simcc.workbench.compare import (
    Launcher,
    Study,
    load_study,
    named_models,
    run_study,
    study_runs,
)
from mmpose_simcc.workbench.compare.decoders import decoder_names
from mmpose_simcc.workbench.compare.launch import LAUNCHERS
from mmpose_simcc.workbench.compare.report import print_table, remarks, write_report
from mmpose_simcc.workbench.compare.study import SCHEDULE, SPLITS, check_study
from mmpose_simcc.workbench.toy import make_toy_coco

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'
TOY_CONFIGS = [
    str(CONFIGS / 'body_2d_keypoint' / name)
    for name in (
        'topdown_heatmap/toy_coco/td-hm_res18_1xb8-4e_toy-coco-64x64.py',
        'topdown_heatmap/toy_coco/td-hm_res18_dark-1xb8-4e_toy-coco-64x64.py',
        'simcc/toy_coco/simcc_res18_1xb8-4e_toy-coco-64x64.py',
    )
]
TOY_ROOT = 'data/toy_coco'
# Seed 0 drew the pictures on which the toy recipe was chosen.
TOY_DATA = dict(train=1600, val=300, seed=1)


def parse_args():
    parser = CommandLine(
        'Compare keypoint heads and decoders: train each config that has no checkpoint (its last '
        'epoch counts), decode its outputs on the test data by every decoder from one forward '
        'pass, and write a page with tables (also Markdown, CSV, JSON), plots and pictures. What '
        'was done before with the same config, checkpoint and data is not computed again, and an '
        'interrupted training goes on. Without arguments it trains heatmap, DARK and SimCC models '
        'on drawn people, which takes minutes.',
        'compare.py A.py B.py=b.pth --data data/coco (trains A, takes B as it is, and evaluates '
        'both on COCO)',
    )
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='CONFIG[=CHECKPOINT]',
        help='top-down configs, each with a checkpoint or to be trained '
        '(default: heatmap, DARK and SimCC with ResNet-18 at 64x64)',
    )
    parser.add_data()
    parser.add_cfg_options()
    parser.add_argument(
        '--split',
        choices=SPLITS,
        help='what models are tested on: the test data of their configs, their training data, or '
        'a fifth of the training images, which is held out of the training (default: test, or as '
        'the study says)',
    )
    parser.add_argument(
        '--study',
        metavar='FILE',
        help='study file, such as those in configs/studies, instead of configs',
    )
    parser.add_argument(
        '--full',
        dest='variant',
        action='store_const',
        const='full',
        help='run the study with the models and sizes of the paper',
    )
    parser.add_argument(
        '--faces',
        dest='variant',
        action='store_const',
        const='faces',
        help='run the study on photographs of faces (300W, in data/300w)',
    )
    parser.add_argument(
        '--vary',
        nargs='+',
        action=DictAction,
        default={},
        metavar='NAME=V1,V2',
        help='codec arguments, lr, epochs and flip_test to vary, in all combinations: '
        'unbiased=False,True simcc_split_ratio=1,2,3 '
        'label_smoothing=equal,gaussian input_size="[(64,64),(128,128)]" '
        'flip_test=none,stock,exact',
    )
    parser.add_argument(
        '--seeds',
        type=at_least(1),
        metavar='N',
        help='train every model N times, with seeds that follow its own: rows are means with '
        'their spread, and intervals hold the noise of training (default: 1, or as the study '
        'says)',
    )
    parser.add_argument(
        '--decoders',
        nargs='+',
        metavar='NAME',
        choices=decoder_names(),
        help=f'some of: {", ".join(decoder_names())} (default: all for heatmaps, argmax for '
        'SimCC, which has dark and daec too; stock is the codec of a config without one of this '
        'package)',
    )
    parser.add_argument(
        '--metric',
        dest='value',
        metavar='NAME',
        help='the metric that plots, intervals and verdicts are of, as tables name it (default: '
        'AP, else PCK, NME or EPE)',
    )
    parser.add_argument(
        '--gt-boxes',
        action='store_true',
        help='cut people out by annotated boxes, not by the detected ones that a config names',
    )
    parser.add_argument(
        '--disagree',
        nargs=2,
        metavar='NAME',
        help='decoders whose largest disagreements are pictured (default: '
        'the best row and the worst)',
    )
    parser.add_work_dir('compare', 'all results, in which they are found again')
    parser.add_argument(
        '--hash',
        action='store_true',
        help='read all pictures to see whether their content has changed since results were '
        'computed (default: by name, size and modification time)',
    )
    parser.add_argument(
        '--launcher',
        choices=LAUNCHERS,
        default=LAUNCHERS[0],
        help="MMEngine's launcher of trainings and evaluations (default: %(default)s)",
    )
    parser.add_argument(
        '--gpus',
        type=at_least(1),
        default=1,
        metavar='N',
        help='processes that the launcher starts, one for each GPU (default: %(default)s)',
    )
    parser.add_argument(
        '--srun-args',
        default='',
        metavar='"..."',
        help='further arguments of srun, such as the partition',
    )
    args = parser.parse_args()
    if args.study and (args.configs or args.vary):
        parser.error('--study names the models and what varies: give no CONFIG or --vary with it')
    if args.variant and not args.study:
        parser.error(f'--{args.variant} needs --study')
    return args


def read_study(args):
    """The study that the arguments name, its models and its folder."""
    if args.study:
        study = load_study(args.study, args.variant)
        folder = args.work_dir / '_'.join(filter(None, [Path(args.study).stem, args.variant]))
    else:
        vary = {
            name: values if isinstance(values, list) else [values]
            for name, values in args.vary.items()
        }
        schedule = {name: vary.pop(name) for name in SCHEDULE if name in vary}
        study = Study(named_models(args.configs or TOY_CONFIGS), vary, schedule=schedule)
        folder = args.work_dir
    for name in ('decoders', 'disagree', 'seeds', 'split', 'value'):
        if getattr(args, name):
            setattr(study, name, getattr(args, name))
    draw = None if args.data else draw_toy_data
    runs = study_runs(study, args.data, args.gt_boxes, args.work_dir, args.cfg_options, draw)
    if not args.study:
        varied = [*args.vary]
        # shorter than the names of configs
        by_scheme = not varied and len({run.scheme for run in runs}) == len(runs)
        study.rows = ['scheme' if by_scheme else 'model', *varied, 'decoder']
        if by_scheme:
            study.plot = dict(x='scheme')
    check_study(study, runs)
    return study, runs, folder


def draw_toy_data(configs):
    """Draw the data of the toy configs, if one of the configs uses them."""
    if not any(cfg.get('data_root', '').rstrip('/') == TOY_ROOT for cfg in configs):
        return
    root = Path(TOY_ROOT)
    root.parent.mkdir(parents=True, exist_ok=True)
    # drawn with other numbers, or by hand: used as it is
    with (
        locked(root.with_name(f'.{root.name}.lock'), f'draw {root}'),
        contextlib.suppress(FileExistsError),
    ):
        make_toy_coco(root, **TOY_DATA)


def main():
    args = parse_args()
    end_forks_with_parent()
    # a comparison that is ended takes its trainings with it
    for number in {signal.SIGTERM, getattr(signal, 'SIGHUP', signal.SIGTERM)}:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with errors_in_a_line('interrupted; the same command goes on from here'):
        study, runs, folder = read_study(args)
        folder.mkdir(parents=True, exist_ok=True)  # a disk that is full says so first
        for line in remarks(study, runs):
            print(f'compare: {line}', file=sys.stderr)
        launcher = Launcher(args.launcher, args.gpus, args.srun_args)
        rows = run_study(study, runs, args.work_dir, launcher, args.hash)
        page, *paths = write_report(study, runs, rows, folder)
    console = Console()
    print_table(rows, console, study.value)
    console.print(
        f'\n[bold]{escape(str(page))}[/] holds the tables, plots and pictures; in the same '
        'folder: ' + ', '.join(path.name for path in paths),
        highlight=False,
    )


if __name__ == '__main__':
    main()
