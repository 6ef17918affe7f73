# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Makes MMPose, last released in July 2024, work with the packages that pip installs today.

* mmcv-lite has no ``mmcv.ops``, which MMPose imports for a few bottom-up
  heads whether or not they are used. A stand-in module takes its place; its
  classes raise an :class:`ImportError` when somebody really uses them.
* mmdet 3.3 refuses to be imported beside mmcv 2.2, although it works with it.
* xtcocotools, with which MMPose reads COCO's layout and evaluates, has wheels
  only for numpy 1 and Python 3.7 to 3.11. Where it cannot be imported,
  :mod:`mmpose_simcc.utils.coco_evaluation` takes its place and gives the same
  figures by pycocotools.
* setuptools 81 and later have no ``pkg_resources``, with which MMEngine looks
  up packages. :mod:`mmpose_simcc.utils.distributions` takes its place.
* MMEngine before 0.8.5 cannot write configs with yapf 0.40.2 and later.
* MMPose mirrors keypoints by the order of ``keypoint_info``, and MMEngine writes
  configs with their keys sorted as text: 0, 1, 10, 2. From such a config a
  metainfo of more than ten keypoints would mix up left and right.
* MMPose's visualizer passes an array with one element where a number is
  expected, an error with numpy 2.4 and later.
* torch >= 2.6 loads checkpoints with ``weights_only=True``, and checkpoints
  that MMEngine writes hold a few harmless types beside the tensors (the
  training log's history, the arrays of the data set's metainfo). Exactly
  these types are declared safe.
* MMEngine unpickles whatever a checkpoint from a URL holds, and with torch <
  2.6 or in its fork by OneDL a local one too, so that a crafted file can run
  programs. Here files and URLs are loaded by :func:`load_checkpoint`, which is
  equally strict with every version of torch.

Each mend does nothing where it is not needed.
"""

import codecs
import functools
import importlib
import importlib.util
import inspect
import logging
import os
import pickle
import re
import sys
import types
from collections import Counter
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional
from urllib.parse import urlparse

import numpy as np
import torch
from torch import serialization

from .environment import installed_version, numbers

logger = logging.getLogger('mmpose_simcc')
# Set in the environment once the mends have been reported, so that child processes stay silent.
SAID = 'MMPOSE_SIMCC_SAID'

# torch.load takes only weights unless told otherwise, from its older file formats too.
LOADS_WEIGHTS_ONLY = numbers(torch.__version__) >= (2, 6)


def _refuse(name: str) -> None:
    raise ImportError(
        f'{name} needs compiled mmcv ops, and this environment has mmcv '
        'without them (mmcv-lite). Install the full package to use it: mim '
        'install "mmcv>=2.0.0"'
    )


class _OpsStandIn(types.ModuleType):
    """Takes the place of ``mmcv.ops`` or of a module in it. Every name in it
    is a class that can be imported and subclassed, but not instantiated."""

    def __getattr__(self, name: str) -> type:
        if name.startswith('__'):
            raise AttributeError(name)

        def __init__(instance, *args, **kwargs):
            _refuse(f'{self.__name__}.{name}')

        stand_in = type(name, (torch.nn.Module,), dict(__init__=__init__))
        setattr(self, name, stand_in)
        return stand_in

    @staticmethod
    def get_compiler_version() -> str:
        """Called where MMEngine logs the environment; here nothing was compiled."""
        return 'n/a'

    get_compiling_cuda_version = get_compiler_version

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


def mend_mmdet() -> bool:
    """Let mmdet be imported beside mmcv 2.2, although it asserts an earlier one.

    Returns:
        bool: Whether it refused.
    """
    import mmcv

    if importlib.util.find_spec('mmdet') is None:
        return False
    try:
        importlib.import_module('mmdet')
    except AssertionError:
        version = mmcv.__version__
        try:
            mmcv.__version__ = '2.1.0'
            importlib.import_module('mmdet')
        finally:
            mmcv.__version__ = version
        return True
    return False


class _PkgResourcesFinder:
    """Finds the stand-in for ``pkg_resources``, when something imports it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'pkg_resources':
            return spec_from_file_location(name, Path(__file__).with_name('distributions.py'))


def mend_pkg_resources() -> bool:
    """Let MMEngine look up packages without ``pkg_resources``, or with one
    that this Python cannot import.

    Returns:
        bool: Whether a stand-in was needed and can be imported from now on.
    """
    # The pkg_resources of setuptools < 66 cannot be imported by Python 3.12.
    setuptools = installed_version('setuptools')
    works = sys.version_info < (3, 12) or setuptools and numbers(setuptools) >= (66,)
    if 'pkg_resources' in sys.modules or works and importlib.util.find_spec('pkg_resources'):
        return False
    sys.meta_path.insert(0, _PkgResourcesFinder)
    return True


def mend_visualizer() -> bool:
    """Let MMPose draw keypoints with numpy >= 2.4.

    Returns:
        bool: Whether this numpy needs it.
    """
    if numbers(np.__version__) < (2, 4):
        return False
    from mmpose.visualization.opencv_backend_visualizer import OpencvBackendVisualizer

    draw_circles = OpencvBackendVisualizer.draw_circles

    @functools.wraps(draw_circles)
    def draw(self, center, radius, *args, **kwargs):
        if self.backend == 'opencv':
            radius = float(np.reshape(radius, ()))
        return draw_circles(self, center, radius, *args, **kwargs)

    OpencvBackendVisualizer.draw_circles = draw
    return True


def _parse_in_order(parse: Callable[[dict], dict], metainfo: dict) -> dict:
    """MMPose's ``parse_pose_metainfo``, with keypoints in the order of their numbers."""
    parsed = parse(metainfo)
    numbers = list(parsed['keypoint_id2name'])
    if sorted(numbers) == list(range(len(numbers))):
        order = np.argsort(numbers)
        parsed['keypoint_id2name'] = dict(sorted(parsed['keypoint_id2name'].items()))
        parsed['flip_indices'] = [parsed['flip_indices'][i] for i in order]
        parsed['keypoint_colors'] = parsed['keypoint_colors'][order]
    return parsed


def mend_metainfo() -> bool:
    """Let MMPose take the keypoints of a metainfo in the order of their numbers, in whatever
    order ``keypoint_info`` has them.

    Returns:
        bool: Whether it took them in another.
    """
    from mmpose.datasets.datasets import utils

    parse = utils.parse_pose_metainfo
    keypoints = {1: dict(name='b', swap='c'), 0: dict(name='a'), 2: dict(name='c', swap='b')}
    probe = dict(
        dataset_name='', keypoint_info=keypoints, skeleton_info={}, joint_weights=[], sigmas=[]
    )
    if parse(probe)['flip_indices'] == [0, 2, 1]:
        return False
    in_order = functools.wraps(parse)(functools.partial(_parse_in_order, parse))
    for name, module in list(sys.modules.items()):  # many have imported it by its name
        if name.startswith('mmpose.') and getattr(module, 'parse_pose_metainfo', None) is parse:
            module.parse_pose_metainfo = in_order
    return True


def mend_yapf() -> bool:
    """Let MMEngine before 0.8.5 write configs with yapf 0.40.2 and later,
    which has no ``verify``.

    Returns:
        bool: Whether it needs that.
    """
    import mmengine

    if numbers(mmengine.__version__) >= (0, 8, 5):
        return False
    from mmengine.config import config

    formatter = config.FormatCode
    if 'verify' in inspect.signature(formatter).parameters:
        return False
    config.FormatCode = lambda *args, verify=None, **options: formatter(*args, **options)
    return True


def mend_xtcocotools() -> bool:
    """Let MMPose evaluate without xtcocotools, or with one that was built for
    another numpy.

    Returns:
        bool: Whether the stand-in was needed and put in place.
    """
    try:
        importlib.import_module('xtcocotools.mask')
    except Exception:  # each fails in its own way
        from pycocotools import mask

        from . import coco_evaluation
    else:
        return False
    package = types.ModuleType('xtcocotools', coco_evaluation.__doc__)
    package.__path__ = []
    for name, module in dict(coco=coco_evaluation, cocoeval=coco_evaluation, mask=mask).items():
        setattr(package, name, module)
        sys.modules[f'xtcocotools.{name}'] = module
    sys.modules['xtcocotools'] = package
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
    """Why torch refused a checkpoint or could not read it, in one line. torch's
    own message goes on to advise how to unpickle it all the same.

    Args:
        error (Exception): What loading the checkpoint raised.
    """
    text = ' '.join(str(error).split())
    refused = re.search(r'GLOBAL (\S+) (?:was not an allowed|whose module)', text)
    if refused:
        return f'it holds {refused[1]}, which is not a type that checkpoints need'
    if 'Weights only load failed' in text:
        text = re.split(r'WeightsUnpickler error: ', text)[-1]
        text = re.split(r' Check the documentation of torch.load', text)[0]
    return text or type(error).__name__


def _allow_checkpoint_types() -> bool:
    """Declare the types of MMEngine's own checkpoints safe for
    ``torch.load(weights_only=True)``, torch's default from 2.6 on.

    Returns:
        bool: Whether any was not.
    """
    allowed = serialization.get_safe_globals()
    missing = [item for item in _checkpoint_types() if item not in allowed]
    serialization.add_safe_globals(missing)
    return bool(missing)


def mend_checkpoint_loading() -> bool:
    """Let MMEngine load its own checkpoints, and nothing that could run a
    program, from files and URLs.

    Returns:
        bool: Whether this was still to be done.
    """
    from mmengine.runner import checkpoint
    from mmengine.runner.checkpoint import CheckpointLoader

    if checkpoint.load_from_http is load_from_http:
        return False
    if LOADS_WEIGHTS_ONLY:
        _allow_checkpoint_types()
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
    checkpoint.load_from_http = load_from_http  # for names of model zoos
    return True


def load_from_local(filename: str, map_location: Optional[Callable] = None) -> Any:
    """:func:`load_checkpoint` as MMEngine's loader of local files.

    Raises:
        FileNotFoundError: There is no such file.
        pickle.UnpicklingError: It cannot be read, or holds what no checkpoint
            needs.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'{filename} can not be found.')
    try:
        return load_checkpoint(str(path), map_location)
    except Exception as error:  # unpickling raises nearly anything
        raise pickle.UnpicklingError(
            f'checkpoint {filename} cannot be read: {why_refused(error)}'
        ) from error


def load_from_http(
    filename: str,
    map_location: Optional[Callable] = None,
    model_dir: Optional[str] = None,
    progress: bool = True,
) -> Any:
    """:func:`load_from_local` for URLs. The file is kept where torch keeps its
    downloads; with several processes, the first one fetches it."""
    from mmengine.dist import barrier, get_dist_info

    folder = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints')
    path = folder / Path(urlparse(filename).path).name
    if get_dist_info()[0] == 0 and not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(path), progress=progress)
    barrier()
    return load_from_local(str(path), map_location)


def load_checkpoint(path: str, map_location: Any = 'cpu') -> Any:
    """Load a checkpoint, unpickling nothing but tensors, plain containers and
    the types of MMEngine's own checkpoints.

    Args:
        path (str): A local file.
        map_location (str | torch.device | callable | dict, optional): Where
            tensors go, see :func:`torch.load`.

    Returns:
        What was saved.

    Raises:
        Exception: It cannot be read, or holds anything else;
            :func:`why_refused` turns this into one line.
    """
    if LOADS_WEIGHTS_ONLY:
        _allow_checkpoint_types()  # OneDL's MMEngine empties the list
        return torch.load(path, map_location=map_location, weights_only=True)
    # Before 2.4 torch cannot be told of MMEngine's types, and before 2.6 a crafted
    # file gets around its list (CVE-2025-32434). But it takes another unpickler.
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
    return torch.load(path, map_location=map_location, pickle_module=restricted)


class _CheckpointUnpickler(pickle.Unpickler):
    """Finds what :func:`_allowed_globals` lists, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # torch writes protocol 2, which has Python 2's name of this module
        module = 'builtins' if module == '__builtin__' else module
        try:
            return _allowed_globals()[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(
                f'GLOBAL {module}.{name} was not an allowed global'
            ) from None


@functools.cache
def _allowed_globals() -> Dict[str, Any]:
    """What torch's own loader of weights allows, in its latest version as well,
    and what MMEngine's checkpoints need."""
    from torch._weights_only_unpickler import _get_allowed_globals

    allowed = dict(_get_allowed_globals())
    since = [Counter, set, complex, torch.device, codecs.encode]
    for item in since + _checkpoint_types():
        value, name = item if isinstance(item, tuple) else (item, None)
        allowed[name or f'{value.__module__}.{value.__qualname__}'] = value
    return allowed


MENDS = {
    mend_pkg_resources: 'a stand-in for pkg_resources',
    mend_yapf: 'configs are written with yapf >= 0.40.2',
    mend_mmcv_ops: 'a stand-in for mmcv.ops (heads that need compiled ops raise when built)',
    mend_mmdet: 'mmdet beside mmcv 2.2',
    mend_xtcocotools: 'pycocotools in place of xtcocotools, to the same figures',
    mend_checkpoint_loading: 'checkpoints are loaded without running what they hold',
    mend_metainfo: 'keypoints of a metainfo count in the order of their numbers',
    mend_visualizer: 'drawing with numpy >= 2.4',
}


def apply() -> None:
    """Mend what needs mending in this environment, and say what was done.
    Called when ``mmpose_simcc`` is imported. Only the first process says it,
    not the ones that it starts."""
    done = [what for mend, what in MENDS.items() if mend()]
    if done and not os.environ.get(SAID) and os.environ.get('LOCAL_RANK', '0') == '0':
        logger.warning('mmpose_simcc mends this environment: %s.', '; '.join(done))
        os.environ[SAID] = '1'
