# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import contextlib
import functools
import gc
import io
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import cv2
import pytest
import torch
from hypothesis import settings
from mmengine.config import Config

import mmpose_simcc  # registers, and mends the environment
from mmpose_simcc.workbench.compare import timing

# No test asks how long a network takes: 4 rounds of each, not 33.
timing.ROUNDS = 3

# The same cases in every run of a commit; others with
# --hypothesis-profile=explore.
settings.register_profile('repeatable', derandomize=True, deadline=None)
settings.register_profile('explore', derandomize=False, deadline=None)
settings.load_profile('repeatable')


# A worker gets whole files. Those that take minutes are handed out first, so
# that no worker sits over one of them at the end.
LONG_FILES = (
    'test_training.py',
    'test_stock_configs.py',
    'test_packaging.py',
    'test_readme.py',
    'test_docs.py',
    'test_end_to_end.py',
    'test_calibration.py',
    'test_compare.py',
    'test_compare_stock.py',
)


_cfg_path = Config._get_cfg_path


@functools.cache
def _installed_path(name):
    return _cfg_path(name, '')


def _get_cfg_path(path, filename=''):
    """MMEngine reads all metafiles of MMPose for each base that is one of its configs, a quarter
    of a second: here once for a base."""
    return _installed_path(path) if '::' in path else _cfg_path(path, filename)


Config._get_cfg_path = staticmethod(_get_cfg_path)


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.path.name
        return LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES)

    items.sort(key=place)


def pytest_collection_finish():
    """What the libraries made while they were imported, a million objects,
    stays. Left out of the search for garbage, that search is quick, and the
    models of finished tests, which hold cycles, are freed in time."""
    gc.collect()
    gc.freeze()


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
DEVICES = ['cpu', pytest.param('cuda', marks=cuda)]


def _has_slurm():
    """Whether the Slurm of `.ci/slurm` answers; no job goes to any other."""
    try:
        about = subprocess.run(['scontrol', 'show', 'config'], capture_output=True, timeout=60)
        srun = ['srun', '--ntasks=2', '--immediate=20', 'true']
        return (
            b'mmpose_simcc_test' in about.stdout
            and subprocess.run(srun, capture_output=True, timeout=60).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


# those that start several processes
LAUNCHERS = [
    'pytorch',
    pytest.param('slurm', marks=pytest.mark.skipif(not _has_slurm(), reason='no Slurm')),
]

BESIDE_TESTS = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (BESIDE_TESTS / 'mmpose_simcc').is_dir()
# Configs and tools; out of the repository those of the installed package.
ROOT = BESIDE_TESTS if IN_CHECKOUT else Path(mmpose_simcc.__file__).parent / '.mim'
sys.path.append(str(ROOT / 'tools'))  # for `benchmark`, which no package holds


def run(*command, cwd=None, elsewhere=False):
    """A command as a user types it; its output. ``elsewhere``: in another environment, which knows
    nothing of ``PYTHONPATH``."""
    command = [str(word) for word in command]
    command[0] = str(Path(sys.executable).parent / command[0])
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH' or not elsewhere}
    result = subprocess.run(
        command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


run_elsewhere = functools.partial(run, elsewhere=True)


@contextlib.contextmanager
def torch_threads(number):
    """PyTorch on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _restored():
    """Undoes what tools change in the process that runs them."""
    folder, threads, cv2_threads = os.getcwd(), torch.get_num_threads(), cv2.getNumThreads()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(sys, 'argv'),
            mock.patch.object(sys, 'path', list(sys.path)),
        ):
            yield
    finally:
        os.chdir(folder)
        signal.signal(signal.SIGTERM, handler)
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv2_threads)


def run_tool(name, *args, cwd='.') -> subprocess.CompletedProcess:
    """``python tools/NAME ARGS`` in this process, which has imported MMPose
    already. What would be a traceback is raised."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with _restored(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = [str(ROOT / 'tools' / name), *map(str, args)]
        os.chdir(cwd)
        try:
            runpy.run_path(sys.argv[0], run_name='__main__')
        except SystemExit as done:
            status = done.code or 0
            if not isinstance(status, int):  # as the interpreter does
                print(status, file=sys.stderr)
                status = 1
        return subprocess.CompletedProcess(sys.argv, status, out.getvalue(), err.getvalue())


@pytest.fixture(scope='session')
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def uv() -> Path:
    """Installs and builds what lies in a checkout."""
    program = Path(sys.executable).with_name('uv')
    if not (program.is_file() and IN_CHECKOUT):
        pytest.skip('needs a checkout and its `make venv`')
    return program


@pytest.fixture(scope='session')
def golden_dir() -> Path:
    return Path(__file__).resolve().parent / 'golden'


@pytest.fixture(scope='session')
def shared_dir() -> Path:
    """Real pictures and large golden files kept beside the checkout."""
    path = BESIDE_TESTS.parent / 'shared'
    if not path.is_dir():
        pytest.skip('../shared is not here')
    return path


def _mount(path: Path, options: str) -> None:
    done = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(path)], capture_output=True
    )
    if done.returncode:
        pytest.skip('tmpfs cannot be mounted here')


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 kB."""
    path = tmp_path / 'small_disk'
    path.mkdir()
    if shutil.which('mount') is None:
        pytest.skip('there is no mount')
    _mount(path, 'size=64k')
    yield path
    subprocess.run(['umount', '-l', str(path)], check=True)


@pytest.fixture
def read_only(small_disk):
    """Makes that disk read-only, which stops root as well."""

    def lock() -> Path:
        _mount(small_disk, 'remount,ro')
        return small_disk

    return lock
