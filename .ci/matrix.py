#!/usr/bin/env python3
# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Runs the test suite from outside the repository, against what pip installs,
in environments of their own, and prints a table of them.

    python .ci/matrix.py                   oldest, reference, newest, compiled
    python .ci/matrix.py reference sdist   these; arguments of pytest after --

Environments and wheels that take long to compile are kept in .matrix.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple, Tuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / '.matrix'
# MMPose asks for opencv-python, which needs libGL, where the headless build
# of the same module needs nothing; mmengine imports what setuptools 81 lost.
OVERRIDES = """\
opencv-python ; sys_platform == "never"
opencv-contrib-python ; sys_platform == "never"
setuptools < 81
"""
TEST_PACKAGES = (
    'pytest',
    'pytest-xdist',
    'hypothesis',
    'onnx',
    'onnxruntime',
    'opencv-python-headless',
    'openmim',
    'rtmlib',
)
PINNED = tuple(
    line
    for line in (ROOT / 'requirements.txt').read_text().splitlines()
    if line and not line.startswith('#')
)
SHOWN = ('torch', 'mmpose', 'mmengine', 'mmcv', 'mmcv-lite', 'numpy')


class Environment(NamedTuple):
    python: str  # asked for
    requirements: Tuple[str, ...]
    # what chumpy, and what is compiled here, need to be built
    build_requirements: Tuple[str, ...] = ('setuptools<81', 'wheel', 'pip', 'numpy<2')
    compiled: Tuple[str, ...] = ()  # built here from their sources
    artifact: str = 'whl'


ENVIRONMENTS = dict(
    oldest=Environment(
        '3.9',
        (
            'torch==2.1.0',
            'torchvision==0.16.0',
            'mmengine==0.8.0',
            'mmcv-lite==2.0.0',
            'mmpose==1.2.0',
            'numpy<1.25',
            'six',
            'yapf<0.40.2',
            *TEST_PACKAGES,
        ),
    ),
    reference=Environment('3.11', PINNED),
    newest=Environment(
        '3.12',
        (
            'torch',
            'torchvision',
            'mmengine',
            'mmcv-lite<2.2',
            'mmpose',
            'mmdet',
            'numpy>=2,<2.4',
            *TEST_PACKAGES,
        ),
        build_requirements=('setuptools<81', 'wheel', 'pip', 'numpy>=2,<2.4', 'cython'),
        compiled=('xtcocotools',),
    ),
    compiled=Environment(
        '3.11',
        tuple(line for line in PINNED if not line.startswith('mmcv-lite')),
        build_requirements=tuple(
            line
            for line in PINNED
            if line.split('==')[0]
            in ('pip', 'setuptools', 'wheel', 'numpy', 'torch', 'typing-extensions')
        )
        + ('ninja',),
        compiled=('mmcv==2.1.0',),
    ),
    # reference again, installed from the sdist and with the tests in it
    sdist=Environment('3.11', PINNED, artifact='tar.gz'),
)
MATRIX = ('oldest', 'reference', 'newest', 'compiled')


def run(*command, **options) -> str:
    """Run a command and return what it printed; show it if it fails."""
    command = [str(word) for word in command]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode:
        print(done.stdout)
        raise RuntimeError(f'`{shlex.join(command)}` failed')
    return done.stdout


def uv(*arguments, **options) -> str:
    found = Path(sys.executable).parent / 'uv'
    return run(found if found.exists() else 'uv', *arguments, **options)


def find_python(version: str) -> Path:
    """An interpreter of this version, or the running one where there is
    none and none can be fetched; the table then says so."""
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    for found in sorted(pyenv.glob(f'versions/{version}.*/bin/python')):
        return found
    try:
        return Path(uv('python', 'find', '--system', version).strip())
    except RuntimeError:
        print(f'no Python {version}: running {sys.version.split()[0]} instead')
        return Path(getattr(sys, '_base_executable', sys.executable))


def install(name: str, environment: Environment) -> Path:
    """Create an environment, unless it is there as declared."""
    folder = WORK / name
    python = folder / 'bin' / 'python'
    record, declared = folder / 'declared.json', json.dumps(environment)
    if record.is_file() and record.read_text() == declared:
        return python
    print(f'== {name}: installing', flush=True)
    uv('venv', '--clear', '--python', find_python(environment.python), folder)
    overrides = WORK / 'overrides.txt'
    overrides.write_text(OVERRIDES)
    pip = ('pip', 'install', '--python', python, '--overrides', overrides)
    uv(*pip, *environment.build_requirements)
    for requirement in environment.compiled:
        wheels = WORK / 'wheels' / name
        package = requirement.split('=')[0]
        if not list(wheels.glob(f'{package}-*.whl')):
            run(
                python,
                '-m',
                'pip',
                'wheel',
                '--no-deps',
                '--no-cache-dir',
                '--no-build-isolation',
                '--no-binary',
                package,
                '--wheel-dir',
                wheels,
                requirement,
                env={
                    **os.environ,
                    'MMCV_WITH_OPS': '1',
                    'PATH': f'{folder / "bin"}:{os.environ["PATH"]}',
                },
            )
        uv(*pip, '--no-deps', *wheels.glob(f'{package}-*.whl'))
    uv(*pip, '--no-build-isolation-package', 'chumpy', *environment.requirements)
    record.write_text(declared)
    return python


def build() -> None:
    """An sdist, and a wheel made from that sdist."""
    shutil.rmtree(WORK / 'dist', ignore_errors=True)
    uv('build', '--out-dir', WORK / 'dist', ROOT)


def copy_tests(name: str, environment: Environment) -> Path:
    """Tests and pytest's settings alone, so that the package can only come
    from the environment."""
    folder = WORK / 'run' / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = ROOT
    if environment.artifact == 'tar.gz':
        (archive,) = (WORK / 'dist').glob('*.tar.gz')
        with tarfile.open(archive) as content:
            content.extractall(WORK / 'dist')
        source = archive.with_name(archive.name[: -len('.tar.gz')])
    shutil.copytree(
        source / 'tests', folder / 'tests', ignore=shutil.ignore_patterns('__pycache__')
    )
    shutil.copy2(source / 'pyproject.toml', folder)
    return folder


def versions(python: Path) -> dict:
    code = (
        'import json, platform\n'
        'from importlib.metadata import distributions\n'
        'print(json.dumps(dict({d.metadata["Name"].lower(): d.version '
        'for d in distributions()}, python=platform.python_version())))'
    )
    return json.loads(run(python, '-c', code))


def test(name: str, pytest_args) -> dict:
    """Install, run the suite, and return the row of the table."""
    environment = ENVIRONMENTS[name]
    row = dict(environment=name, python=environment.python)
    try:
        python = install(name, environment)
        (artifact,) = (WORK / 'dist').glob(f'*.{environment.artifact}')
        uv('pip', 'install', '--python', python, '--no-deps', '--reinstall', artifact)
    except RuntimeError as error:
        return dict(row, failed=f'cannot be installed: {error}')
    found = versions(python)
    row.update((package, found.get(package, '')) for package in SHOWN)
    row['python'] = found['python']
    if not found['python'].startswith(f'{environment.python}.'):
        row['python'] += f' (no {environment.python} on this machine)'
    folder = copy_tests(name, environment)
    print(f'== {name}: testing', flush=True)
    # not the user's PYTHONPATH, which may hold the repository
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    report = folder / 'report.xml'
    subprocess.run(
        [
            str(python),
            '-m',
            'pytest',
            '-n',
            'auto',
            # a crash ends the run, where xdist might wait for ever
            '--max-worker-restart=0',
            f'--junitxml={report}',
            *pytest_args,
        ],
        cwd=folder,
        env={**env, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg'},
    )
    if not report.is_file():
        return dict(row, failed='pytest did not finish')
    suite = ElementTree.parse(report).getroot().find('testsuite')
    count = {key: int(suite.get(key)) for key in ('tests', 'failures', 'errors', 'skipped')}
    failed = count['failures'] + count['errors']
    return dict(
        row,
        passed=count['tests'] - failed - count['skipped'],
        failed=failed,
        skipped=count['skipped'],
    )


def table(rows) -> str:
    header = (
        'Environment',
        'Python',
        'torch',
        'mmpose',
        'mmengine',
        'mmcv',
        'numpy',
        'passed',
        'failed',
        'skipped',
    )
    lines = [header, ['---'] * len(header)]
    for row in rows:
        lite = row.get('mmcv-lite')
        cells = dict(row, mmcv=f'{lite} (lite)' if lite else row.get('mmcv'))
        lines.append([str(cells.get(key.lower(), '')) for key in header])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='*', help=f'of {", ".join(ENVIRONMENTS)}')
    words = sys.argv[1:]
    split = words.index('--') if '--' in words else len(words)
    names = parser.parse_args(words[:split]).names or MATRIX
    unknown = set(names) - set(ENVIRONMENTS)
    if unknown:
        parser.error(
            f'no environment {", ".join(sorted(unknown))}: choose from {", ".join(ENVIRONMENTS)}'
        )
    WORK.mkdir(exist_ok=True)
    build()
    rows = [test(name, words[split + 1 :]) for name in names]
    print(table(rows))
    return int(any(row['failed'] for row in rows))


if __name__ == '__main__':
    sys.exit(main())
