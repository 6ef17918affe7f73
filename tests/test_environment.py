# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Packages that cannot work together are named when the package is imported, with a command that
works when it is pasted.

Each test puts a package, or the metadata of one, before the installed ones.
"""

import ast
import os
import re
import subprocess
import sys
import textwrap
import venv

import pytest
from conftest import BESIDE_TESTS, IN_CHECKOUT

from mmpose_simcc import environment

# The check by itself needs none of what the package imports; one test imports the package.
CHECK = f"""
import importlib.util
import sys
spec = importlib.util.spec_from_file_location('environment', {environment.__file__!r})
environment = importlib.util.module_from_spec(spec)
sys.modules['environment'] = environment
spec.loader.exec_module(environment)
environment.check()
"""


@pytest.fixture
def run_check(tmp_path):
    """What a Python says in which ``tmp_path`` comes before all that is installed."""

    def run_check(before='', check=CHECK):
        path = [str(tmp_path)] + [str(BESIDE_TESTS)] * IN_CHECKOUT
        return subprocess.run(
            [sys.executable, '-c', textwrap.dedent(before) + '\n' + check],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run_check


@pytest.fixture
def fails_with(run_check):
    """The last line that the check ends with."""

    def fails_with(*args, **options):
        done = run_check(*args, **options)
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


def without(*modules):
    return f"""
        import importlib.util
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = (
            lambda name, *a: None if name in {modules!r} else find_spec(name, *a))
    """


def test_this_environment_works():
    environment.check()


@pytest.mark.parametrize(
    'name, version, needed, install',
    [
        ('torch', '2.0.1+cu117', 'torch >= 2.1', 'pip install "torch>=2.1" torchvision'),
        ('mmengine', '0.7.4', 'mmengine >= 0.8, < 1', 'pip install "mmengine>=0.8,<1"'),
        (
            'mmcv',
            '1.7.2',
            'mmcv >= 2.0, < 3',
            'pip uninstall -y mmcv && pip install mmcv-lite==2.1.0',
        ),
        (
            'mmpose',
            '0.29.0',
            'mmpose >= 1.2, < 2',
            'pip install --no-deps "mmpose>=1.2,<2"',
        ),
    ],
)
def test_version(installed, fails_with, name, version, needed, install):
    installed(name, version)
    message = fails_with()
    assert message.startswith(f'ImportError: mmpose_simcc needs {needed}, but {version} is')
    assert message.endswith(f'Install: {install}')


@pytest.mark.slow
def test_importing_the_package_checks(installed, fails_with):
    installed('mmengine', '0.7.4')
    message = fails_with(check='import mmpose_simcc')
    assert message.startswith('ImportError: mmpose_simcc needs mmengine >= 0.8')


@pytest.mark.parametrize(
    'modules, install',
    [
        (('torch',), 'pip install "torch>=2.1" torchvision'),
        (('mmcv',), 'pip install mmcv-lite==2.1.0'),
        (('mmpose',), 'pip install --no-deps "mmpose>=1.2,<2"'),
        (('munkres', 'json_tricks'), 'pip install json-tricks munkres'),
        (('cv2',), 'pip install opencv-python-headless'),
        (('pycocotools', 'xtcocotools'), 'pip install pycocotools'),
    ],
)
def test_missing(fails_with, modules, install):
    message = fails_with(without(*modules))
    assert message.startswith('ImportError: mmpose_simcc needs ')
    assert message.endswith(f'Install: {install}')


def test_mmpose_1_3_without_mmdet(installed, fails_with, run_check):
    installed('mmpose', '1.3.0')
    message = fails_with(without('mmdet'))
    assert 'needs mmdet, which MMPose imports' in message
    assert message.endswith('pip install "mmdet>=3.2,<3.4"')


@pytest.mark.parametrize(
    'name, version, modules',
    [
        ('mmpose', '1.2.0', ['mmdet']),
        ('torch', '4.0', []),
        ('mmcv', '2.2.0', []),
        ('setuptools', '84.0', ['pkg_resources']),
        ('xtcocotools', '1.14', ['xtcocotools']),
    ],
)
def test_refuses_nothing_that_works(installed, run_check, name, version, modules):
    installed(name, version)
    binaries = CHECK.replace(
        'environment.check()', 'environment._check_versions(); environment._check_companions()'
    )
    done = run_check(without(*modules), binaries)
    assert done.returncode == 0, done.stderr


class TestWorkbench:
    def test_missing(self, fails_with):
        check = CHECK.replace('environment.check()', 'environment.check_workbench()')
        message = fails_with(without('ijson', 'tabulate'), check)
        assert message.endswith(
            'needs ijson, tabulate for this. Install: pip install ijson tabulate'
        )

    @pytest.mark.skipif(not IN_CHECKOUT, reason='needs setup.py')
    def test_is_the_extra(self):
        tree = ast.parse((BESIDE_TESTS / 'setup.py').read_text(encoding='utf-8'))
        (names,) = (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and node.targets[0].id == 'WORKBENCH'
        )
        assert tuple(re.split('[><=]', name)[0] for name in names) == environment.WORKBENCH


def test_torch_for_numpy_1(installed, fails_with):
    installed('torch', '2.2.2')
    installed('numpy', '2.1.0')
    message = fails_with()
    assert 'torch 2.2.2, which is built for numpy 1, with numpy 2.1.0' in message
    assert message.endswith('pip install "numpy<2"')


def test_two_packages_with_the_same_files(installed, run_check):
    installed('mmengine', '0.10.7')
    installed('onedl_mmengine', '0.10.12')
    binaries = CHECK.replace('environment.check()', 'environment._check_versions()')
    said = run_check(check=binaries).stderr
    assert 'mmengine and onedl-mmengine are installed, which have the same files' in said
    assert 'pip uninstall -y mmengine onedl-mmengine && pip install "mmengine>=0.8,<1"' in said


def test_compiled_for_others(tmp_path, fails_with, installed):
    installed('torch', '2.13.0+cpu')
    installed('numpy', '2.1.0')
    path = tmp_path / 'torchvision' / '__init__.py'
    path.parent.mkdir()
    path.write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    message = fails_with()
    assert 'cannot import torchvision ' in message and 'beside torch 2.13.0+cpu' in message
    assert 'RuntimeError: operator torchvision::nms does not exist' in message
    assert message.endswith('pip install --force-reinstall torch==2.13.0 torchvision numpy==2.1.0')


@pytest.mark.slow
def test_commands_work_when_pasted(tmp_path):
    """pip resolves each in an environment without packages; it installs none."""
    companions = ' '.join(environment.COMPANIONS.values())
    commands = [package.install for package in environment.PACKAGES]
    commands += [f'pip install {companions}', 'pip uninstall -y mmcv && pip install "numpy<2"']
    commands += ['pip install --force-reinstall torch==2.13.0 torchvision numpy==2.1.0']
    commands += [f'pip install {" ".join(environment.WORKBENCH)}', 'pip install sleap-io']
    commands += [
        'pip uninstall -y opencv-python opencv-contrib-python opencv-python-headless && '
        'pip install opencv-python-headless numpy==2.1.0',
        'pip uninstall -y mmcv && pip install mmcv-lite==2.1.0',
    ]
    venv.create(tmp_path / 'venv', with_pip=True)
    path = f'{tmp_path / "venv" / "bin"}{os.pathsep}{os.environ["PATH"]}'
    quick = dict(PIP_DRY_RUN='1', PIP_NO_DEPS='1', PIP_QUIET='1')
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            env={**os.environ, 'PATH': path, **quick},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f'{command}\n{done.stderr}'
