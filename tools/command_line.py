# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the command lines of the tools have in common: options that mean the same everywhere, and
how errors are told. It imports nothing heavy, since some tools choose first what is imported."""

import argparse
import contextlib
import sys
import warnings
from pathlib import Path
from typing import Iterator

# MMPose and mmcv warn of what they lack for other tasks
warnings.filterwarnings('ignore', module='mm(cv|pose)')

CONFIG_HELP = 'config file, or mmpose::... for one of MMPose'


def at_least(low: int):
    """An argument's type: an integer that is no less."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low:
            raise argparse.ArgumentTypeError(f'{text} is not an integer >= {low}')
        return number

    return read


def device(text: str) -> str:
    """An argument's type: a device that PyTorch can use here."""
    import torch

    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f'{text}: {str(error).splitlines()[0]}') from None
    return text


class CommandLine(argparse.ArgumentParser):
    """A tool's arguments, with those that several tools have.

    Args:
        description (str): What the tool does.
        example (str): A command after ``python tools/``.
    """

    def __init__(self, description: str, example: str) -> None:
        super().__init__(description=description, epilog=f'example: python tools/{example}')

    def add_config(self) -> None:
        self.add_argument('config', metavar='CONFIG', help=CONFIG_HELP)

    def add_checkpoint(self) -> None:
        self.add_argument('checkpoint', metavar='CHECKPOINT', help='weights of the trained model')

    def add_cfg_options(self) -> None:
        from mmengine.config import DictAction

        self.add_argument(
            '--cfg-options',
            nargs='+',
            action=DictAction,
            default={},
            metavar='NAME=VALUE',
            help="changes of the config, as in MMPose's tools: train_cfg.max_epochs=20",
        )

    def add_data(self) -> None:
        self.add_argument(
            '--data',
            metavar='ROOT',
            help='folder in place of `data_root` in the config, of the same layout '
            '(default: as in the config)',
        )

    def add_work_dir(self, tool: str, contents: str) -> None:
        self.add_argument(
            '--work-dir',
            type=Path,
            default=Path('work_dirs', tool),
            metavar='DIR',
            help=f'folder of {contents} (default: %(default)s)',
        )

    def add_benchmark(self, rounds: int) -> None:
        self.add_argument(
            '--device',
            type=device,
            choices=('cpu', 'cuda'),
            default='cpu',
            help='where to run (default: %(default)s)',
        )
        for name, default, what in (
            ('--threads', 1, 'CPU threads'),
            ('--rounds', rounds, 'times that everything is run and timed'),
        ):
            self.add_argument(
                name,
                type=at_least(1),
                default=default,
                metavar='N',
                help=f'{what} (default: %(default)s)',
            )


@contextlib.contextmanager
def errors_in_a_line(interrupted: str = 'interrupted') -> Iterator[None]:
    """End a tool by one line on stderr and status 1 where something is wrong that the user can
    mend, by status 130 at Ctrl-C. ``python -X dev tools/...`` shows where it happened.

    Args:
        interrupted (str): What is said at Ctrl-C.
    """
    tool = Path(sys.argv[0]).stem
    try:
        yield
    except KeyboardInterrupt:
        print(f'{tool}: {interrupted}', file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, ImportError) as error:
        if sys.flags.dev_mode:
            raise
        sys.exit(f'{tool}: {" ".join(str(error).split())}')
