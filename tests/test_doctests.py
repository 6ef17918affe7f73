# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The examples in docstrings are true, and every public equation has one."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch

import mmpose_simcc
from mmpose_simcc import functional

MODULES = [name for _, name, _ in pkgutil.walk_packages(mmpose_simcc.__path__, 'mmpose_simcc.')]
NAMES = dict(np=np, torch=torch, **{name: getattr(functional, name) for name in functional.__all__})


@pytest.mark.parametrize('name', MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    module = importlib.import_module(name)
    names = NAMES if name.startswith(functional.__name__) else {}
    assert not doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS).failed


@pytest.mark.parametrize('name', functional.__all__)
def test_every_equation_has_one(name):
    assert '>>> ' in inspect.getdoc(getattr(functional, name))
