# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Which part of the package may import which: its files are read, not run."""

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import mmpose_simcc

PACKAGE = Path(mmpose_simcc.__file__).parent
# Each room, and what it may import of the others. `mmpose_simcc` itself, the
# root, gathers the public names.
ALLOWED = {
    'version': set(),
    'utils': {'version'},
    'functional': {'utils'},
    'codecs': {'functional', 'utils', 'version'},
    'models': {'functional', 'utils', 'version'},
    'engine': {'config', 'functional', 'utils', 'version'},
    'config': {'codecs', 'models', 'functional', 'utils'},
    'weights': {'models', 'codecs', 'functional', 'utils', 'version'},
    'workbench': {'config', 'codecs', 'models', 'engine', 'functional', 'utils', 'version'},
    'deploy': {'workbench', 'config', 'codecs', 'models', 'functional', 'utils', 'version'},
    'mmpose_simcc': {'codecs', 'engine', 'models', 'utils', 'version'},
}
# The client runs where neither torch nor MMPose is installed.
CLIENT_NEEDS = {'numpy', 'cv2', 'onnxruntime', 'av'}


class Import(NamedTuple):
    """``from target import name`` in a module; both modules by full name."""

    module: str
    target: str
    name: str
    line: int

    def __str__(self):
        return f'{self.module}, line {self.line}: {self.name} of {self.target}'


def module_name(path: Path) -> str:
    parts = ('mmpose_simcc', *path.relative_to(PACKAGE).with_suffix('').parts)
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


FILES = {
    module_name(path): path
    for path in sorted(PACKAGE.rglob('*.py'))
    if '.mim' not in path.parts  # configs and tools of an installed package
}


def imports_of(module: str, path: Path):
    """Every import in a file, those inside of functions as well."""
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, '', node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = package.split('.')
            base = base[: len(base) + 1 - node.level] if node.level else []
            target = '.'.join([*base, *filter(None, [node.module])])
            for alias in node.names:
                whole = f'{target}.{alias.name}'
                if whole in FILES:  # `from . import module`
                    yield Import(module, whole, '', node.lineno)
                else:
                    yield Import(module, target, alias.name, node.lineno)


IMPORTS = [found for module, path in FILES.items() for found in imports_of(module, path)]
INNER = [found for found in IMPORTS if found.target.split('.')[0] == 'mmpose_simcc']


def room(module: str) -> str:
    return module.split('.')[min(1, module.count('.'))]


def package_of(module: str) -> str:
    """The folder that a module lies in."""
    return module if FILES[module].name == '__init__.py' else module.rpartition('.')[0]


def test_relative_imports_are_understood():
    """The rest of this file rests on it."""
    assert len(FILES) > 60 and len(INNER) > 100
    assert {found.target for found in INNER} <= set(FILES)
    assert {room(module) for module in FILES} <= set(ALLOWED)
    files = 'mmpose_simcc.workbench.toy.coco', 'mmpose_simcc.utils.files', 'whole_file'
    assert files in [found[:3] for found in INNER]


@pytest.mark.parametrize('name', ALLOWED)
def test_rooms_import_downwards(name):
    forbidden = [
        str(found)
        for found in INNER
        if room(found.module) == name and room(found.target) not in ALLOWED[name] | {name}
    ]
    assert not forbidden


def test_no_cycles_between_rooms():
    todo = {name: set(others) for name, others in ALLOWED.items()}
    while todo:
        lowest = {name for name, others in todo.items() if not others & todo.keys()}
        assert lowest, f'each of {sorted(todo)} imports another of them'
        for name in lowest:
            del todo[name]


def test_no_cycles_between_modules():
    """An `__init__` gathers what lies in its folder, which may in turn import
    neighbours, but not the folder itself."""
    todo = {module: set() for module in FILES}
    for found in INNER:
        todo[found.module].add(found.target)
    while todo:
        lowest = {module for module, others in todo.items() if not others & todo.keys()}
        assert lowest, f'each of {sorted(todo)} imports another of them'
        for module in lowest:
            del todo[module]


@pytest.mark.skipif(sys.version_info < (3, 10), reason='needs sys.stdlib_module_names')
def test_client_needs_no_torch():
    client = 'mmpose_simcc.deploy.client'
    forbidden = [
        str(found)
        for found in IMPORTS
        if found.module.startswith(client)
        and not found.target.startswith(client)
        and found.target.split('.')[0] not in CLIENT_NEEDS | set(sys.stdlib_module_names)
    ]
    assert not forbidden


def test_tools_stay_outside():
    """What lies in tools/ is no part of the package."""
    outside = {'benchmark', 'tools'}
    assert not [str(found) for found in IMPORTS if found.target.split('.')[0] in outside]


def test_private_names_stay_in_their_package():
    private = [
        str(found)
        for found in INNER
        if package_of(found.module) != package_of(found.target)
        and re.search(r'(^|\.)_(?!_)', f'{found.target}.{found.name}')
    ]
    assert not private
