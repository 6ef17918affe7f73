# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Packages that cannot work together are named when the package is imported.

Each test puts a package, or the metadata of one, before the installed ones.
"""

import os
import subprocess
import sys
import textwrap

import pytest
from conftest import BESIDE_TESTS, IN_CHECKOUT

from mmpose_simcc import environment

pytestmark = pytest.mark.slow


@pytest.fixture
def fails_with(tmp_path):
    """The last line that importing the package ends with."""

    def fails_with(before=''):
        path = [str(tmp_path)] + [str(BESIDE_TESTS)] * IN_CHECKOUT
        done = subprocess.run(
            [sys.executable, '-c', textwrap.dedent(before) + '\nimport mmpose_simcc'],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]

    return fails_with


@pytest.fixture
def installed(tmp_path):
    """Makes pip's record say that a version is installed."""

    def installed(name, version):
        folder = tmp_path / f'{name}-{version}.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        )

    return installed


def test_this_environment_works():
    environment.check()


@pytest.mark.parametrize(
    'name, version, needed, install',
    [
        ('torch', '2.0.1+cu117', 'torch >= 2.1', 'pip install "torch>=2.1"'),
        ('mmengine', '0.7.4', 'mmengine >= 0.8', '"mmengine>=0.8,<1"'),
        ('mmcv', '1.7.2', 'mmcv >= 2.0', 'pip install mmcv-lite==2.1.0'),
        ('mmcv', '2.2.0', 'mmcv >= 2.0, < 2.2', 'pip install mmcv-lite==2.1.0'),
        ('mmpose', '0.29.0', 'mmpose >= 1.2', '"mmpose>=1.2,<1.4"'),
        ('mmpose', '2.0.0', 'mmpose >= 1.2, < 1.4', '"mmpose>=1.2,<1.4"'),
    ],
)
def test_version(installed, fails_with, name, version, needed, install):
    installed(name, version)
    message = fails_with()
    assert message.startswith('ImportError: mmpose_simcc needs ' + needed)
    assert f'but {version} is installed. Install: ' in message
    assert install in message


@pytest.mark.parametrize(
    'module, install',
    [
        ('torch', 'pip install "torch>=2.1" torchvision'),
        ('mmcv', 'pip install mmcv-lite==2.1.0'),
        ('mmpose', 'pip install "mmpose>=1.2,<1.4"'),
        ('pkg_resources', 'pip install "setuptools<81"'),
    ],
)
def test_missing(fails_with, module, install):
    message = fails_with(f"""
        import importlib.util
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = (
            lambda name, *a: None if name == {module!r}
            else find_spec(name, *a))
    """)
    assert message.startswith(f'ImportError: mmpose_simcc needs {module}')
    assert f'Install: {install}' in message


def test_mmpose_1_3_without_mmdet(installed, fails_with):
    installed('mmpose', '1.3.0')
    message = fails_with("""
        import importlib.util
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = (
            lambda name, *a: None if name == 'mmdet' else find_spec(name, *a))
    """)
    assert 'needs mmdet, which mmpose 1.3.0 imports' in message
    assert 'pip install "mmdet>=3.2,<3.4"' in message


def test_torch_for_numpy_1(installed, fails_with):
    installed('torch', '2.2.2')
    installed('numpy', '2.1.0')
    message = fails_with()
    assert 'torch 2.2.2, which is built for numpy 1, with numpy 2.1.0' in (message)
    assert 'pip install "numpy<2"' in message


def test_yapf_of_early_mmengine(installed, fails_with):
    installed('mmengine', '0.8.4')
    installed('yapf', '0.40.2')
    message = fails_with()
    assert 'mmengine 0.8.4, which does not write configs with yapf 0.40.2' in (message)
    assert 'pip install "yapf<0.40.2"' in message


@pytest.mark.parametrize(
    'module, error, install',
    [
        ('xtcocotools/_mask', 'ValueError("numpy.dtype size changed")', 'pip install "numpy<2"'),
        (
            'torchvision/__init__',
            'RuntimeError("operator torchvision::nms does not exist")',
            'torchvision, which finds its release',
        ),
    ],
)
def test_compiled_for_others(tmp_path, fails_with, module, error, install):
    path = tmp_path / f'{module}.py'
    path.parent.mkdir()
    (path.parent / '__init__.py').touch()
    path.write_text(f'raise {error}')
    message = fails_with()
    assert f'cannot import {path.parent.name} ' in message
    assert error.split('"')[1] in message
    assert install in message
