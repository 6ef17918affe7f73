# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Checks, when the package is imported, whether the installed packages can work together. Each
error names what is wrong and ends with a command that puts it right, which the errors of the
packages themselves do not.

Versions are read from the packages' metadata. To see whether compiled packages fit the others,
they are imported, but only those that MMPose imports anyway.
"""

import importlib
import importlib.util
import logging
import re
import sys
from importlib import metadata
from typing import List, NamedTuple, Optional, Tuple

logger = logging.getLogger('mmpose_simcc')

Version = Tuple[int, ...]


class Package(NamedTuple):
    """A package that must be there, with the versions that work."""

    module: str
    minimum: Version  # the first that works
    below: Optional[Version]  # the first that does not
    install: str
    distributions: Tuple[str, ...]  # its names for pip


PACKAGES = (
    Package('torch', (2, 1), None, 'pip install "torch>=2.1" torchvision', ('torch',)),
    Package(
        'mmengine',
        (0, 8),
        (1,),
        'pip install "mmengine>=0.8,<1"',
        ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
    ),
    Package(
        'mmcv', (2, 0), (3,), 'pip install mmcv-lite==2.1.0', ('mmcv', 'mmcv-lite', 'onedl-mmcv')
    ),
    Package('mmpose', (1, 2), (2,), 'pip install --no-deps "mmpose>=1.2,<2"', ('mmpose',)),
)
# What MMPose imports, and what is missing where it was installed with --no-deps.
COMPANIONS = {
    'cv2': 'opencv-python-headless',
    'json_tricks': 'json-tricks',
    'matplotlib': 'matplotlib',
    'munkres': 'munkres',
    'scipy': 'scipy',
    'torchvision': 'torchvision',
    'mmdet': '"mmdet>=3.2,<3.4"',  # mmpose >= 1.3
    'pycocotools': 'pycocotools',  # in place of xtcocotools
}
# The modules of the extra `workbench` in setup.py.
WORKBENCH = ('filelock', 'ijson', 'jinja2', 'matplotlib', 'pandas', 'rich', 'scipy', 'tabulate')


def installed_version(*distributions: str) -> Optional[str]:
    """The version of the first of these distributions that is installed."""
    found = _installed(distributions)
    return metadata.version(found[0]) if found else None


def numbers(version: str) -> Version:
    """The numbers that a version begins with: (2, 13, 0) for 2.13.0+cpu."""
    return tuple(map(int, re.match(r'\d+(\.\d+)*', version)[0].split('.')))


def _installed(distributions: Tuple[str, ...]) -> List[str]:
    found = []
    for name in distributions:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def _is_missing(module: str) -> bool:
    return module not in sys.modules and importlib.util.find_spec(module) is None


def _text(version: Version) -> str:
    return '.'.join(map(str, version))


def _refuse(what: str, install: str, error: Optional[Exception] = None) -> None:
    raise ImportError(f'mmpose_simcc {what}. Install: {install}') from error


def _check_versions() -> None:
    for package in PACKAGES:
        needed = f'{package.module} >= {_text(package.minimum)}'
        if package.below:
            needed += f', < {_text(package.below)}'
        if _is_missing(package.module):
            _refuse(f'needs {needed}, which is not installed', package.install)
        found = _installed(package.distributions)
        if not found:  # from a checkout
            continue
        if len(found) > 1:
            logger.warning(
                'mmpose_simcc: %s are installed, which have the same files; whichever came last '
                'has them. Install one: pip uninstall -y %s && %s',
                ' and '.join(found),
                ' '.join(found),
                package.install,
            )
        version = metadata.version(found[0])
        if numbers(version) < package.minimum or (
            package.below and numbers(version) >= package.below
        ):
            # mmcv and mmcv-lite have the same files: the old one has to go first
            remove = f'pip uninstall -y {found[0]} && ' if package.module == 'mmcv' else ''
            _refuse(f'needs {needed}, but {version} is installed', remove + package.install)


def _check_companions() -> None:
    """What MMPose imports beside them, and which numpy torch was built for."""
    mmpose, torch = installed_version('mmpose'), installed_version('torch')
    missing = [module for module in COMPANIONS if _is_missing(module)]
    if mmpose and numbers(mmpose) < (1, 3) and 'mmdet' in missing:
        missing.remove('mmdet')
    if 'pycocotools' in missing and not _is_missing('xtcocotools'):
        missing.remove('pycocotools')
    if missing:
        _refuse(
            f'needs {", ".join(missing)}, which MMPose imports and which '
            f'{"are" if len(missing) > 1 else "is"} not installed',
            ' '.join(['pip install', *(COMPANIONS[module] for module in missing)]),
        )
    numpy = installed_version('numpy')
    if numpy and torch and numbers(numpy) >= (2,) and numbers(torch) < (2, 3):
        _refuse(
            f'cannot use torch {torch}, which is built for numpy 1, with numpy {numpy}',
            'pip install "numpy<2"',
        )


def _check_binaries() -> None:
    """Whether compiled packages can be imported beside the versions installed here."""
    torch, numpy = installed_version('torch'), installed_version('numpy')
    release = _text(numbers(torch)) if torch else ''  # without +cpu, which PyPI does not have
    checks = [
        (
            'cv2',
            'opencv-python',
            'the libraries of this machine',
            'pip uninstall -y opencv-python opencv-contrib-python opencv-python-headless && '
            f'pip install opencv-python-headless numpy=={numpy}',
        ),
        (
            'torchvision',
            'torchvision',
            f'torch {torch}',
            f'pip install --force-reinstall torch=={release} torchvision numpy=={numpy}',
        ),
    ]
    if importlib.util.find_spec('mmcv._ext'):
        checks.append(
            (
                'mmcv._ext',
                'mmcv',
                f'torch {torch}',
                'pip uninstall -y mmcv && pip install mmcv-lite==2.1.0',
            )
        )
    for module, name, beside, install in checks:
        try:
            importlib.import_module(module)
        except Exception as error:  # each fails in its own way
            version = installed_version(name) or '(not installed)'
            _refuse(
                f'cannot import {name} {version} beside {beside} ({type(error).__name__}: {error})',
                install,
                error,
            )


def check_workbench() -> None:
    """Called when ``mmpose_simcc.workbench`` is imported.

    Raises:
        ImportError: Packages of its extra are missing; the message ends with
            the command that installs them.
    """
    missing = [module for module in WORKBENCH if _is_missing(module)]
    if missing:
        _refuse(f'needs {", ".join(missing)} for this', f'pip install {" ".join(missing)}')


def check() -> None:
    """Called first of all when ``mmpose_simcc`` is imported.

    Raises:
        ImportError: A package is missing, too old or too new, or two packages
            do not fit each other. The message names what is installed, what is
            needed and the command that installs it.
    """
    _check_versions()
    _check_companions()
    _check_binaries()
