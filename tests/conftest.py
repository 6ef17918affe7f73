# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

import mmpose_simcc  # registers, and mends the environment

# The same cases in every run of a commit; others with
# --hypothesis-profile=explore.
settings.register_profile('repeatable', derandomize=True)
settings.register_profile('explore', derandomize=False)
settings.load_profile('repeatable')


def pytest_collection_modifyitems(items):
    """Quick tests first."""
    items.sort(key=lambda item: item.get_closest_marker('slow') is not None)


BESIDE_TESTS = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (BESIDE_TESTS / 'mmpose_simcc').is_dir()
# Configs and tools; out of the repository those of the installed package.
ROOT = BESIDE_TESTS if IN_CHECKOUT else Path(mmpose_simcc.__file__).parent / '.mim'
sys.path.append(str(ROOT / 'tools'))  # for `benchmark`, which no package holds


def run(*command, cwd=None, fails=False):
    """A command as a user types it; its output."""
    command = [str(word) for word in command]
    command[0] = str(Path(sys.executable).parent / command[0])
    result = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert (result.returncode != 0) == fails, result.stdout[-4000:]
    return result.stdout


@pytest.fixture(scope='session')
def repo_root() -> Path:
    return ROOT


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
