# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What identifies a result: all that changes it, and nothing else.

Configs count as resolved, files by their content, packages by their versions.
Where files lie, how many processes read them and where in memory an object is
do not count.
"""

import functools
import hashlib
import json
import mmap
import os
import re
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any, Dict, List, Optional, Tuple, Union

import mmengine
import mmpose
import torch
from mmengine.config import Config
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import DATASETS

from ..utils.console import track
from ..utils.files import file_sha256
from ..version import __version__

# where things lie, who reads them, and how they look
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
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    """A value that JSON has no form for, in terms of others; never by its
    address, which ``repr`` gives of many."""
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


def versions() -> Dict[str, str]:
    """Of the packages that results depend on; not of which build they are."""
    return dict(
        mmpose_simcc=__version__,
        mmpose=mmpose.__version__,
        mmengine=mmengine.__version__,
        torch=torch.__version__.split('+')[0],
    )


def name_model(cfg: Config, checkpoint: str) -> Dict[str, Any]:
    """What a file of learned values says of the model that they are of.

    Args:
        cfg (Config): Its config.
        checkpoint (str): Its weights.
    """
    return dict(
        config=Path(cfg.filename or '').name,
        checkpoint=Path(checkpoint).name,
        sha256=file_sha256(checkpoint),
        flip_test=bool(cfg.model.get('test_cfg', {}).get('flip_test')),
    )


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
                dataset_class = _dataset_class(config)
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


def _dataset_class(config: dict) -> Optional[type]:
    kind = config.get('type')
    return DATASETS.get(kind) if isinstance(kind, str) else kind


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
    """All of a folder, for annotations that name pictures in another way."""
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
