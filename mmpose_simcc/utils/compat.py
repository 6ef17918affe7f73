# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Mends gaps between MMPose and the packages that pip installs today.

* mmcv-lite has no ``mmcv.ops``, which MMPose imports for a few bottom-up
  heads whether or not they are used. A stand-in module takes its place; its
  classes raise an :class:`ImportError` when somebody really uses them.
* torch >= 2.6 loads checkpoints with ``weights_only=True``, and checkpoints
  that MMEngine writes hold a few harmless types beside the tensors (the
  training log's history, the arrays of the data set's metainfo). Exactly
  these types are declared safe; nothing ever falls back to unpickling
  arbitrary objects.

Where compiled ops are installed, or torch is older, nothing is changed;
:func:`load_checkpoint` is as strict with every torch.
"""

import codecs
import functools
import importlib
import importlib.util
import logging
import pickle
import re
import sys
import types
from collections import Counter
from importlib.machinery import ModuleSpec
from typing import Any, Dict, List

import torch
from torch import serialization

logger = logging.getLogger('mmpose_simcc')

# by default, and as strictly with its older file formats
LOADS_WEIGHTS_ONLY = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2])) >= (2, 6)


def _refuse(name: str) -> None:
    raise ImportError(
        f'{name} needs compiled mmcv ops, and this environment has mmcv '
        'without them (mmcv-lite). Install the full package to use it: mim '
        'install "mmcv>=2.0.0"'
    )


class _OpsStandIn(types.ModuleType):
    """Stands in for ``mmcv.ops`` or a module in it: every name is a class
    that can be imported and subclassed, but not instantiated."""

    def __getattr__(self, name: str) -> type:
        if name.startswith('__'):
            raise AttributeError(name)

        def __init__(instance, *args, **kwargs):
            _refuse(f'{self.__name__}.{name}')

        stand_in = type(name, (torch.nn.Module,), dict(__init__=__init__))
        setattr(self, name, stand_in)
        return stand_in

    def __call__(self, *args, **kwargs):
        # mmcv.ops.nms is a module and, in mmcv, a function as well
        _refuse(self.__name__)


class _OpsFinder:
    """Finds and loads stand-ins for ``mmcv.ops`` and everything in it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'mmcv.ops' or name.startswith('mmcv.ops.'):
            return ModuleSpec(name, _OpsFinder, is_package=True)

    @staticmethod
    def create_module(spec):
        return _OpsStandIn(spec.name)

    @staticmethod
    def exec_module(module):
        pass


def _has_compiled_ops() -> bool:
    return importlib.util.find_spec('mmcv._ext') is not None


def mend_mmcv_ops() -> bool:
    """Let MMPose import without compiled mmcv ops.

    Returns:
        bool: Whether a stand-in was needed and put in place.
    """
    if 'mmcv.ops' in sys.modules or _has_compiled_ops():
        return False
    sys.meta_path.insert(0, _OpsFinder)
    importlib.import_module('mmcv.ops')
    return True


def _history_statistic(owner: type, name: str):
    """``getattr`` for the one use that a checkpoint has for it: a
    HistoryBuffer pickles its statistics as ``getattr(HistoryBuffer, 'min')``.
    Unrestricted, it would hand a crafted file any object's internals."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed in a checkpoint')
    return getattr(owner, name)


def _empty_bytes() -> bytes:
    """``bytes`` for the one use that a checkpoint has for it: the content of
    an empty array (the skeleton of a data set without one) is pickled as
    ``bytes()``. Unrestricted, ``bytes(10**12)`` would fill the memory."""
    return b''


def _checkpoint_types() -> List:
    """The types beside tensors and plain containers in a checkpoint written
    by ``mmengine.runner.Runner.save_checkpoint``."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    try:
        from numpy._core import multiarray  # numpy >= 2
    except ImportError:
        from numpy.core import multiarray
    # A checkpoint names numpy's rebuild functions by the module of the numpy
    # that wrote it, numpy.core (1.x) or numpy._core (2.x): allow both.
    rebuild = [
        (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
        for name in ('_reconstruct', 'scalar')
        for core in ('core', '_core')
    ]
    numbers = [type(np.dtype(code)) for code in '?bBhHiIlLqQefdg']
    return [
        HistoryBuffer,
        (_history_statistic, 'builtins.getattr'),
        (_empty_bytes, 'builtins.bytes'),
        np.ndarray,
        np.dtype,
        *rebuild,
        *numbers,
    ]


def why_refused(error: Exception) -> str:
    """What torch found in a checkpoint that it refused or could not read, in
    one line: torch surrounds it with advice on how to unpickle anything.

    Args:
        error (Exception): From loading a checkpoint.
    """
    text = ' '.join(str(error).split())
    refused = re.search(r'GLOBAL (\S+) (?:was not an allowed|whose module)', text)
    if refused:
        return f'it holds {refused[1]}, which is not a type that checkpoints need'
    if 'Weights only load failed' in text:
        text = re.split(r'WeightsUnpickler error: ', text)[-1]
        text = re.split(r' Check the documentation of torch.load', text)[0]
    return text or type(error).__name__


def mend_checkpoint_loading() -> bool:
    """Declare the types of MMEngine's own checkpoints safe for
    ``torch.load(weights_only=True)``, torch's default from 2.6 on.

    Returns:
        bool: Whether this torch needed it.
    """
    from mmengine.logging import HistoryBuffer

    if not LOADS_WEIGHTS_ONLY or HistoryBuffer in serialization.get_safe_globals():
        return False
    serialization.add_safe_globals(_checkpoint_types())
    return True


def load_checkpoint(path: str) -> Any:
    """Load a checkpoint to the CPU, of which nothing is unpickled but
    tensors, plain containers and the types of MMEngine's own checkpoints.

    Args:
        path (str): A local file.

    Returns:
        What was saved.

    Raises:
        Exception: It cannot be read or holds something else; see
            :func:`why_refused`.
    """
    if LOADS_WEIGHTS_ONLY:
        return torch.load(path, map_location='cpu', weights_only=True)
    # Before 2.6 torch can be told no types of MMEngine's (2.4) or leaves gaps
    # for crafted files (CVE-2025-32434), but takes another unpickler.
    with open(path, 'rb') as file:
        if serialization._is_zipfile(file):
            with serialization._open_zipfile_reader(file) as content:
                if serialization._is_torchscript_zip(content):
                    raise pickle.UnpicklingError('it is a TorchScript program')
    restricted = types.SimpleNamespace(
        __name__='pickle',
        Unpickler=_CheckpointUnpickler,
        load=lambda file, **options: _CheckpointUnpickler(file, **options).load(),
    )
    return torch.load(path, map_location='cpu', pickle_module=restricted)


class _CheckpointUnpickler(pickle.Unpickler):
    """Finds what :func:`_allowed_globals` lists, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # protocol 2, in which torch writes, has the name of Python 2
        module = 'builtins' if module == '__builtin__' else module
        try:
            return _allowed_globals()[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(
                f'GLOBAL {module}.{name} was not an allowed global'
            ) from None


@functools.cache
def _allowed_globals() -> Dict[str, Any]:
    """Those of torch's own loader of weights with what it has got since, and
    MMEngine's."""
    from torch._weights_only_unpickler import _get_allowed_globals

    allowed = dict(_get_allowed_globals())
    since = [Counter, set, complex, torch.device, codecs.encode]
    for item in since + _checkpoint_types():
        value, name = item if isinstance(item, tuple) else (item, None)
        allowed[name or f'{value.__module__}.{value.__qualname__}'] = value
    return allowed


def apply() -> None:
    """Mend what needs mending in this environment, and say once what was
    done. Called when ``mmpose_simcc`` is imported."""
    done = []
    if mend_mmcv_ops():
        done.append(
            'mmcv.ops is a stand-in (mmcv-lite; heads that need compiled ops raise when built)'
        )
    if mend_checkpoint_loading():
        done.append('the types in MMEngine checkpoints are safe for torch.load(weights_only=True)')
    if done:
        logger.warning('mmpose_simcc: %s.', '; '.join(done))
