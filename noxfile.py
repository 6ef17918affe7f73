# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Runs the suite outside the repository, against what pip installs.

    nox                               oldest, reference, newest, compiled
    nox -s reference sdist -- ARGS    these; ARGS go to pytest

Environments are kept in .nox.
"""

import os
import shutil
import tarfile
from pathlib import Path

import nox

nox.needs_version = '>=2025.2.9'
nox.options.default_venv_backend = 'uv'
nox.options.reuse_venv = 'yes'
nox.options.sessions = ['oldest', 'reference', 'newest', 'compiled']

ROOT = Path(__file__).parent
# pyenv shows only the interpreters that are chosen: all of them
PYENV = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv')) / 'versions'
if PYENV.is_dir():
    os.environ.setdefault('PYENV_VERSION', ':'.join(path.name for path in PYENV.iterdir()))
# MMPose asks for opencv-python, which needs libGL, where the headless build
# of the same module needs nothing; mmengine imports what setuptools 81 lost.
OVERRIDES = """\
opencv-python ; sys_platform == "never"
opencv-contrib-python ; sys_platform == "never"
setuptools < 81
"""
# What chumpy, and what is compiled here, are built with.
BUILD = ('setuptools<81', 'wheel', 'pip', 'cython', 'ninja')
TESTS = (
    'pytest',
    'pytest-xdist',
    'hypothesis',
    'onnx',
    'onnxruntime',
    'opencv-python-headless',
    'openmim',
    'rtmlib',
)
PINNED = [
    line
    for line in (ROOT / 'requirements.txt').read_text().splitlines()
    if line and not line.startswith('#')
]


def install(session, *requirements, compiled=()):
    """Requirements, of which ``compiled`` (name==version) are built here from
    their sources."""
    overrides = Path(session.create_tmp()) / 'overrides.txt'
    overrides.write_text(OVERRIDES)
    options = ('--overrides', str(overrides))
    needed = [line for line in requirements if line.startswith(('numpy', 'torch', 'setuptools'))]
    session.install(*options, *BUILD, *needed)
    for requirement in compiled:
        name = requirement.split('==')[0]
        # without uv's cache, in which it would be built for another torch or numpy
        build = ('--no-cache', '--no-deps', '--no-build-isolation', '--no-binary', name)
        session.install(*build, requirement)
    session.install(*options, '--no-build-isolation-package', 'chumpy', *compiled, *requirements)


def test(session, kind='whl'):
    """The suite against a wheel (built from an sdist), or against the sdist
    with the tests in it. Tests and pytest's settings are copied, so that the
    package can only come from the environment."""
    folder = Path(session.create_tmp()) / 'run'
    shutil.rmtree(folder, ignore_errors=True)
    dist = folder / 'dist'
    session.run('uv', 'build', '--quiet', '--out-dir', str(dist), str(ROOT), external=True)
    (artifact,) = dist.glob(f'*.{kind}')
    session.install('--no-deps', '--reinstall', str(artifact))
    source = ROOT
    if kind == 'tar.gz':
        with tarfile.open(artifact) as content:
            content.extractall(dist)
        source = dist / artifact.name[: -len('.tar.gz')]
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(source / 'tests', folder / 'tests', ignore=ignored)
    shutil.copy2(source / 'pyproject.toml', folder)
    session.chdir(folder)
    session.run(
        *('python', '-m', 'pytest', '-n', 'auto', '--max-worker-restart=0', *session.posargs),
        # PYTHONPATH may hold the repository
        env=dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTHONPATH=None),
    )


@nox.session(python='3.9')
def oldest(session):
    """The oldest versions that the package allows."""
    install(
        session,
        'torch==2.1.0',
        'torchvision==0.16.0',
        'mmengine==0.8.0',
        'mmcv-lite==2.0.0',
        'mmpose==1.2.0',
        'numpy<1.25',
        'six',
        'yapf<0.40.2',
        *TESTS,
    )
    test(session)


@nox.session(python='3.11')
def reference(session):
    """The wheel with the pinned versions."""
    install(session, *PINNED)
    test(session)


@nox.session(python='3.11')
def sdist(session):
    """The sdist, and the tests in it, with the pinned versions."""
    install(session, *PINNED)
    test(session, 'tar.gz')


@nox.session(python='3.12')
def newest(session):
    """The newest versions that work together."""
    install(
        session,
        'torch',
        'torchvision',
        'mmengine',
        'mmcv-lite<2.2',
        'mmpose',
        'mmdet',
        'numpy>=2,<2.4',
        *TESTS,
        compiled=['xtcocotools'],
    )
    test(session)


@nox.session(python='3.11')
def compiled(session):
    """The pinned versions, but mmcv with its compiled operators."""
    pinned = [line for line in PINNED if not line.startswith('mmcv-lite')]
    install(session, *pinned, compiled=['mmcv==2.1.0'])
    test(session)
