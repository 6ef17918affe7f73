# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Tells at import which installed packages cannot work together, and what to
install: the errors that they raise themselves name neither.

Versions are read from the packages' metadata. Only what MMPose imports anyway
is imported here, to see whether compiled packages fit the others.
"""

import importlib
import importlib.util
import re
import sys
from importlib import metadata
from typing import NamedTuple, Optional, Tuple

Version = Tuple[int, ...]


class Package(NamedTuple):
    """A package that must be there, with the versions that work."""

    module: str
    minimum: Version  # the first that works
    below: Version  # the first that does not
    install: str
    distributions: Tuple[str, ...]  # its names for pip


PACKAGES = (
    Package('torch', (2, 1), (3,), 'pip install "torch>=2.1" torchvision', ('torch',)),
    Package(
        'mmengine', (0, 8), (1,), 'pip install "mmengine>=0.8,<1"', ('mmengine', 'mmengine-lite')
    ),
    Package(
        'mmcv',
        (2, 0),
        (2, 2),
        'pip install mmcv-lite==2.1.0, or compiled ops with mim install "mmcv>=2.0.0,<2.2.0"',
        ('mmcv', 'mmcv-lite'),
    ),
    Package('mmpose', (1, 2), (1, 4), 'pip install "mmpose>=1.2,<1.4"', ('mmpose',)),
)
BUILD_XTCOCOTOOLS = (
    'pip install "numpy<2", or build it for this numpy: pip install cython '
    '"setuptools<81" wheel, then pip install --no-build-isolation '
    '--no-binary xtcocotools --force-reinstall --no-deps xtcocotools'
)


def _version(*distributions: str) -> Optional[str]:
    """The installed version of the first of these names that is there."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _numbers(version: str) -> Version:
    return tuple(map(int, re.match(r'\d+(\.\d+)*', version)[0].split('.')))


def _is_missing(module: str) -> bool:
    return module not in sys.modules and importlib.util.find_spec(module) is None


def _text(version: Version) -> str:
    return '.'.join(map(str, version))


def _refuse(what: str, install: str) -> None:
    raise ImportError(f'mmpose_simcc {what}. Install: {install}')


def _check_versions() -> None:
    for package in PACKAGES:
        needed = f'{package.module} >= {_text(package.minimum)}, < {_text(package.below)}'
        if _is_missing(package.module):
            _refuse(f'needs {needed}, which is not installed', package.install)
        version = _version(*package.distributions)  # None: from a checkout
        if version and not (package.minimum <= _numbers(version) < package.below):
            _refuse(f'needs {needed}, but {version} is installed', package.install)


def _check_companions() -> None:
    """What these packages need of each other and do not declare."""
    mmpose, torch = _version('mmpose'), _version('torch')
    if mmpose and _numbers(mmpose) >= (1, 3) and _is_missing('mmdet'):
        _refuse(
            f'needs mmdet, which mmpose {mmpose} imports and which is not installed',
            'pip install "mmdet>=3.2,<3.4"',
        )
    if _is_missing('pkg_resources'):
        _refuse(
            f'needs pkg_resources, which mmengine {_version("mmengine")} '
            'imports and setuptools '
            f'{_version("setuptools") or "(not installed)"} does not have',
            'pip install "setuptools<81"',
        )
    numpy = _version('numpy')
    if numpy and torch and _numbers(numpy) >= (2,) and _numbers(torch) < (2, 3):
        _refuse(
            f'cannot use torch {torch}, which is built for numpy 1, with numpy {numpy}',
            'pip install "numpy<2", or torch>=2.3',
        )
    mmengine, yapf = _version('mmengine', 'mmengine-lite'), _version('yapf')
    if mmengine and yapf and _numbers(mmengine) < (0, 8, 5) and _numbers(yapf) >= (0, 40, 2):
        _refuse(
            f'cannot train with mmengine {mmengine}, which does not write configs with yapf {yapf}',
            'pip install "yapf<0.40.2", or "mmengine>=0.8.5,<1"',
        )


def _check_binaries() -> None:
    """Whether what was compiled loads beside what it was not compiled for."""
    torch, numpy = _version('torch'), _version('numpy')
    checks = [
        ('xtcocotools._mask', 'xtcocotools', f'numpy {numpy}', BUILD_XTCOCOTOOLS),
        (
            'torchvision',
            'torchvision',
            f'torch {torch}',
            f'pip install torch=={torch} torchvision, which finds its release',
        ),
    ]
    if importlib.util.find_spec('mmcv._ext'):
        checks.append(
            (
                'mmcv._ext',
                'mmcv',
                f'torch {torch}',
                'pip uninstall mmcv, then pip install mmcv-lite==2.1.0, or '
                'compile mmcv again with mim install "mmcv>=2.0.0,<2.2.0" '
                '--no-cache-dir',
            )
        )
    for module, name, beside, install in checks:
        try:
            importlib.import_module(module)
        except Exception as error:  # each fails in its own way
            version = _version(name) or '(not installed)'
            raise ImportError(
                f'mmpose_simcc cannot import {name} {version} beside '
                f'{beside} ({type(error).__name__}: {error}). Install: '
                f'{install}'
            ) from error


def check() -> None:
    """Called when ``mmpose_simcc`` is imported, before anything else is.

    Raises:
        ImportError: A package is missing, too old or too new, or packages do
            not fit each other; the message names what is installed, what is
            needed and the command that installs it.
    """
    _check_versions()
    _check_companions()
    _check_binaries()
