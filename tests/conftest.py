# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from pathlib import Path

import pytest

import mmpose_simcc  # noqa: F401  (registers, and mends the environment)


def pytest_collection_modifyitems(items):
    """Quick tests first."""
    items.sort(key=lambda item: item.get_closest_marker('slow') is not None)


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def golden_dir() -> Path:
    return Path(__file__).resolve().parent / 'golden'


@pytest.fixture(scope='session')
def shared_dir() -> Path:
    """Real pictures and large golden files kept beside the checkout."""
    path = ROOT.parent / 'shared'
    if not path.is_dir():
        pytest.skip('../shared is not here')
    return path
