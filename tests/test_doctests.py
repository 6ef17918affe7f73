# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The examples in the docstrings of the equations are true, and every public one has an example."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch

from mmpose_simcc import functional

MODULES = [name for _, name, _ in pkgutil.iter_modules(functional.__path__)]
NAMES = dict(np=np, torch=torch, **{name: getattr(functional, name) for name in functional.__all__})


@pytest.mark.parametrize('name', MODULES)
def test_examples(name):
    module = importlib.import_module(f'mmpose_simcc.functional.{name}')
    failed, tried = doctest.testmod(module, extraglobs=NAMES)
    assert tried and not failed


@pytest.mark.parametrize('name', functional.__all__)
def test_every_equation_has_one(name):
    assert '>>> ' in inspect.getdoc(getattr(functional, name))
