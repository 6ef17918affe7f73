# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What identifies a result: all that changes it, and nothing else.

Configs count as resolved, files by their content, packages by their versions.
Where files lie, how many processes read them and where in memory an object is
do not count.
"""

import contextlib
import functools
import hashlib
import inspect
import json
import mmap
import os
import re
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any, Dict, List, Optional, Set, Tuple, Union

import mmpose.registry
import numpy as np
from mmengine.config import Config
from mmengine.registry import Registry, init_default_scope
from mmengine.runner import Runner
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import DATASETS, KEYPOINT_CODECS

from ..models import CalibratedPoseEstimator, ExactFlipPoseEstimator
from ..utils.configs import class_of, dicts, type_name
from ..utils.console import track
from ..utils.files import file_sha256
from ..utils.inference import pose_head_cfg

# entries of a config that change no result: where files lie and who reads them
_IRRELEVANT = frozenset(
    (
        '_scope_',
        'data_root',
        'data_prefix',
        'outfile_prefix',
        'num_workers',
        'persistent_workers',
        'pin_memory',
        'prefetch_factor',
    )
)
_COLORS = ('keypoint_colors', 'skeleton_link_colors')
# COCO's name of a picture, and MPII's
_PICTURE = re.compile(rb'"(?:file_name|image)"\s*:\s*("(?:[^"\\]|\\.)+")')


def digest(value: Any) -> str:
    """Short name of a value, equal in every process for equal values.

    Args:
        value: Of plain types, or of any that are told by their name (classes,
            functions) or by their attributes.
    """
    text = json.dumps(value, sort_keys=True, default=_to_json)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _to_json(value: Any) -> Any:
    """A value that JSON cannot hold, in terms of values that it can; never by its address in
    memory, which is part of many objects' ``repr``."""
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return f'{value.__module__}.{value.__qualname__}'
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=digest)
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if hasattr(value, 'tolist'):  # of numpy or torch
        return [str(value.dtype), value.tolist()]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, '__dict__'):
        return [type(value), vars(value)]
    if hasattr(value, '__slots__'):
        return [type(value), {name: getattr(value, name, None) for name in value.__slots__}]
    return [type(value), repr(value)]


def _class_of(part: dict) -> Any:
    """The class or function that a part of a config names, of whatever registry."""
    kind = part.get('type')
    return _registered(kind) if isinstance(kind, str) else kind


@functools.cache
def _registered(name: str) -> Optional[type]:
    for registry in vars(mmpose.registry).values():
        if isinstance(registry, Registry):
            with contextlib.suppress(RuntimeError, KeyError):  # a name with dots; a scope
                found = registry.get(name)
                if found is not None:
                    return found
    return None


def _packages_used(kind: type) -> Set[str]:
    """The packages that the modules of a class and of its bases lie in or import from."""
    found = set()
    for base in inspect.getmro(kind) if isinstance(kind, type) else [kind]:
        module = sys.modules[base.__module__]
        for value in (module, *vars(module).values()):
            name = value.__name__ if inspect.ismodule(value) else getattr(value, '__module__', None)
            if isinstance(name, str):
                found.add(name.partition('.')[0])
    return found


def _source(package: str) -> Optional[str]:
    """Digest of the source of a package that has no version; None of the standard library."""
    file = Path(getattr(sys.modules[package], '__file__', None) or 'built-in')
    in_library = Path(inspect.__file__).parent in file.parents and 'site-packages' not in file.parts
    if in_library or file.suffix != '.py':
        return None
    files = file.parent.rglob('*.py') if file.name == '__init__.py' else [file]
    return digest([file_sha256(path) for path in sorted(files)])


def versions(*parts: Any) -> Dict[str, str]:
    """What code a config runs: the packages of the classes that it names, of its
    ``custom_imports``, and those that their modules import. Each by its version, not by which
    build it is, or by its source where it has no version.

    Args:
        parts: The config, or parts of it.
    """
    packages = {'mmpose_simcc', 'mmpose', 'mmengine', 'torch'}
    for part in dicts(parts):
        kind = _class_of(part)
        if kind is not None and hasattr(kind, '__module__'):
            packages |= _packages_used(kind)
        modules = (part.get('custom_imports') or {}).get('imports', ())
        modules = [modules] if isinstance(modules, str) else modules
        packages.update(module.partition('.')[0] for module in modules)
    found = {}
    for package in sorted(packages & sys.modules.keys()):
        version = getattr(sys.modules[package], '__version__', None)
        version = _source(package) if version is None else str(version).partition('+')[0]
        if version is not None:
            found[package] = version
    return found


class Content:
    """Replaces the files that a config names by what they hold. Pictures are
    looked at once, so that one serves a whole command.

    Args:
        hash_pictures (bool): Whether pictures count by the SHA-256 of their
            content, for which all are read; else by size and modification
            time.
    """

    def __init__(self, hash_pictures: bool = False) -> None:
        self._hash_pictures = hash_pictures
        self._pictures: Dict[Tuple[Path, Path], str] = {}

    def of(self, config: Any) -> Any:
        """What of a config changes results.

        Args:
            config: Config of a data set, model, metric, hook or any other
                part, as plain dicts and lists.

        Returns:
            The same with files by their content, data sets with their
            pictures and their resolved ``metainfo``, and without what only
            says where they lie.

        Raises:
            OSError: Annotations or ``metainfo`` cannot be read.
        """
        if isinstance(config, dict):
            found = {k: self.of(v) for k, v in config.items() if k not in _IRRELEVANT}
            if 'ann_file' in config or 'metainfo' in config:
                dataset_class = class_of(config, DATASETS)
                if dataset_class is not None:  # not a metric
                    found.update(self._of_dataset(config, dataset_class))
            return found
        if isinstance(config, (list, tuple)):
            return [self.of(value) for value in config]
        if isinstance(config, str) and Path(config).suffix and os.path.isfile(config):
            return file_sha256(config)
        return config

    def _of_dataset(self, dataset: dict, dataset_class: type) -> dict:
        found = {}
        if dataset.get('ann_file'):
            root = Path(dataset.get('data_root') or '')
            ann_file = root / dataset['ann_file']
            prefixes = dataset.get('data_prefix') or dict(img='')
            found['ann_file'] = file_sha256(ann_file)
            found['pictures'] = {
                name: self._pictures_in(root / prefix, ann_file)
                for name, prefix in prefixes.items()
            }
        metainfo = dataset.get('metainfo') or getattr(dataset_class, 'METAINFO', None)
        if metainfo:
            parsed = parse_pose_metainfo(metainfo)
            found['metainfo'] = {k: v for k, v in parsed.items() if k not in _COLORS}
        return found

    def _pictures_in(self, folder: Path, ann_file: Path) -> str:
        key = folder, ann_file
        if key not in self._pictures:
            names = picture_names(ann_file) or _files_in(folder)
            paths = [folder / name for name in names]
            if self._hash_pictures:
                with ThreadPoolExecutor() as readers:
                    hashes = readers.map(_hash, paths)
                    states = list(track(hashes, f'hash {folder}', total=len(paths)))
            else:
                states = [_size_and_time(path) for path in paths]
            self._pictures[key] = digest([names, states])
        return self._pictures[key]


def picture_names(ann_file: Union[str, Path]) -> List[str]:
    """The pictures that an annotation file in JSON names, in order; found
    without parsing it, which for COCO takes 2 GB.

    Args:
        ann_file (str | Path): In the format of COCO or MPII.

    Raises:
        OSError: It cannot be read.
    """
    if not os.path.getsize(ann_file):
        return []
    with open(ann_file, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return sorted({json.loads(found[1]) for found in _PICTURE.finditer(text)})


def _files_in(folder: Path) -> List[str]:
    """All files of a folder, for annotations whose names of pictures are not known."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def _size_and_time(picture: Path) -> Optional[Tuple[int, int]]:
    try:
        status = os.stat(picture)
    except OSError:  # annotations may name more than is used
        return None
    return status.st_size, status.st_mtime_ns


def _hash(picture: Path) -> Optional[str]:
    if not picture.is_file():
        return None
    return hashlib.sha256(picture.read_bytes()).hexdigest()


# Beside its arguments MMEngine's runner reads these of a config.
_READ_BY_RUNNER = (
    *inspect.signature(Runner.__init__).parameters,
    'model_wrapper_cfg',
    'find_unused_parameters',
    'sync_bn',
    'compile',
    'efficient_conv_bn_eval',
    'activation_checkpointing',
)
# Those of them that do not change what is trained: folders, launchers, logs.
_NOT_OF_TRAINING = re.compile(
    'self|cfg|val_.*|test_.*|work_dir|resume|launcher|env_cfg|log_.*|visualizer|experiment_name'
)
# default hooks that do not change a training
_NEUTRAL_HOOKS = (
    'timer',
    'logger',
    'checkpoint',
    'visualization',
    'badcase',
    'config_check',
)


def _labels(codec: dict) -> Any:
    """What a codec makes of three keypoints, in place of its config: two codecs that differ in
    how they decode make the same of them. Rounded, since another processor may round otherwise."""
    try:
        built = KEYPOINT_CODECS.build(codec)
        keypoints = np.float32([[[0.21, 0.4], [0.5, 0.63], [0.77, 0.9]]]) * built.input_size
        encoded = built.encode(keypoints, np.ones((1, 3), np.float32))
        arrays = {name: value for name, value in encoded.items() if isinstance(value, np.ndarray)}
        highest = {name: float(np.abs(value).max(initial=0)) for name, value in arrays.items()}
        return {
            name: [
                f'{highest[name]:.3g}',
                np.round(value / (highest[name] or 1), 2).astype(np.float32) + 0,
            ]
            for name, value in arrays.items()
        }
    except Exception:  # of anybody's codec, which may ask for other keypoints
        return codec


def _with_labels(node: Any) -> Any:
    """A part of a config with every codec in it by its labels."""
    if isinstance(node, (list, tuple)):
        return [_with_labels(value) for value in node]
    if not isinstance(node, dict):
        return node
    kind = _class_of(node)
    if isinstance(kind, type) and issubclass(kind, BaseKeypointCodec):
        return _labels(node)
    return {name: _with_labels(value) for name, value in node.items()}


def _network(cfg: Config) -> dict:
    """The model as it is trained."""
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    model = cfg.to_dict()['model']
    model.pop('test_cfg', None)
    head = pose_head_cfg(dict(model=model))
    for name in ('input_size', 'simcc_split_ratio'):  # a head's are its codec's by default
        if name in head.get('decoder', {}):
            head.setdefault(name, head['decoder'][name])
    same_training = ExactFlipPoseEstimator, CalibratedPoseEstimator  # they differ in tests
    if type_name(model) in [kind.__name__ for kind in same_training]:
        model['type'] = TopdownPoseEstimator.__name__
    return _with_labels(model)


def network_identity(cfg: Config) -> str:
    """Equal for configs whose networks do the same work."""
    return digest(Content().of(_network(cfg)))


def training_identity(cfg: Config, processes: int = 1, content: Optional[Content] = None) -> str:
    """Equal for configs that one training serves: those that differ in how outputs are decoded,
    for example.

    Args:
        cfg (Config): The config.
        processes (int): Those that train it; with their number the batch of a step grows.
        content (Content, optional): Looks at the data; by default anew.
    """
    whole = cfg.to_dict()
    read = {
        name: whole.get(name) for name in _READ_BY_RUNNER if not _NOT_OF_TRAINING.fullmatch(name)
    }
    read['model'] = _network(cfg)
    read['default_hooks'] = {
        name: hook
        for name, hook in (read['default_hooks'] or {}).items()
        if name not in _NEUTRAL_HOOKS
    }
    read['train_cfg'] = {
        name: value
        for name, value in (read['train_cfg'] or {}).items()
        if not name.startswith('val_')
    }
    read['train_dataloader'] = _with_labels(read['train_dataloader'])
    code = versions(read, dict(custom_imports=whole.get('custom_imports')))
    return digest([code, processes, (content or Content()).of(read)])


def forward_identity(cfg: Config, weights: str, content: Optional[Content] = None) -> str:
    """Equal for configs that one forward pass over the test data serves.

    Args:
        cfg (Config): The config.
        weights (str): What the weights come from: digest of a checkpoint or a training's
            identity.
        content (Content, optional): Looks at the data; by default anew.
    """
    whole = cfg.to_dict()
    read = {name: whole[name] for name in ('test_dataloader', 'test_evaluator')}
    read['model'] = _network(cfg)
    read['flip_test'] = [whole['model'].get(name) for name in ('type', 'test_cfg')]
    code = versions(read, dict(custom_imports=whole.get('custom_imports')))
    return digest([code, weights, (content or Content()).of(_with_labels(read))])
