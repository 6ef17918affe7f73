# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""On which data a config trains and is tested."""

import copy
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Optional

from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpose.registry import DATASETS
from torch.utils.data import DataLoader

from ...utils.configs import dicts, type_name
from ...utils.console import silenced
from ...utils.files import file_sha256
from ..data.coco import annotations_of, as_tested, datasets_of, pictures_of
from ..hold_out import hold_out
from ..identity import digest
from .errors import CompareError

_last_read: Dict[str, BaseDataset] = {}  # one at most, without its pipeline


def read_data(cfg: Config, dataset: dict) -> BaseDataset:
    """Build a data set. The models of a comparison have the same data but for the pipeline: what
    was read of the files for the last one is used again.

    Args:
        cfg (Config): The config, of which the default scope counts.
        dataset (dict): Config of the data set.
    """
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    dataset = {**dataset}
    pipeline = dataset.pop('pipeline', ())
    files = [annotations_of(node) for node in dicts(dataset) if node.get('ann_file')]
    files += [Path(node['bbox_file']) for node in dicts(dataset) if node.get('bbox_file')]
    key = digest([dataset, [file_sha256(path) for path in files]])
    if key not in _last_read:
        _last_read.clear()  # before the next is read, for its memory
        with silenced():
            _last_read[key] = DATASETS.build(dataset)
    found = copy.copy(_last_read[key])
    found.pipeline = Compose(pipeline)
    return found


def forget_data() -> None:
    """Free the memory of what :func:`read_data` keeps."""
    _last_read.clear()


def load_test_data(cfg: Config) -> DataLoader:
    """The data loader of a config's test data."""
    dataset = read_data(cfg, cfg.test_dataloader.dataset)
    # by a function, since MMEngine copies whatever else is in the config of a loader
    loader = dict(cfg.test_dataloader, dataset=dict(type=lambda: dataset))
    with silenced():
        return Runner.build_dataloader(loader, seed=0)


def _inside(path: Any, folders: Iterable[str]) -> Optional[str]:
    """A path relative to the innermost of folders that it lies in; None where it lies in none."""
    if not isinstance(path, str) or not path:
        return None
    relative = [os.path.relpath(path, folder) for folder in folders]
    relative = [each for each in relative if not each.startswith('..')]
    return min(relative, key=len, default=None)


def use_data(cfg: Config, root: str) -> None:
    """Point a config at other data of the same layout, in place.

    Args:
        cfg (Config): The config.
        root (str): Folder that replaces every ``data_root``, the config's own as well. Annotations,
            pictures and detected boxes that lie below an old ``data_root`` are then looked for
            below this one, whether or not their path repeats the root.

    Raises:
        CompareError: The config names no folder of its data.
    """
    nodes = [*dicts(cfg._cfg_dict)]
    old = {node['data_root'] for node in nodes if node.get('data_root')}
    if not old:
        raise CompareError(
            f'--data {root}: the config {cfg.filename} has no `data_root` that it could replace'
        )
    for node in nodes:
        prefixes = node.get('data_prefix') or {}
        for place, name in [
            (node, 'ann_file'),
            (node, 'bbox_file'),
            *((prefixes, name) for name in prefixes),
        ]:
            relative = _inside(place.get(name), old)
            if relative is not None:
                joined = node.get('data_root') and name != 'bbox_file'  # by the data set itself
                place[name] = relative if joined else os.path.join(root, relative)
        if node.get('data_root'):
            node['data_root'] = root.rstrip('/') + '/'


def use_annotated_boxes(cfg: Config) -> None:
    """Test on annotated instead of detected boxes, in place."""
    for node in dicts(cfg._cfg_dict):
        if node.get('bbox_file'):
            node['bbox_file'] = ''


def use_hold_out(cfg: Config, folder: Path) -> None:
    """Train on four fifths of the training images and test on the others, in place. Where there
    are several training sets, the first is split, and the pictures that are held out are removed
    from the others.

    Args:
        cfg (Config): The config.
        folder (Path): Gets the annotations.

    Raises:
        CompareError: The annotations cannot be split.
    """
    train = datasets_of(cfg, 'train')
    sources = [(annotations_of(dataset), pictures_of(dataset)) for dataset in train]
    try:
        kept, held_out = hold_out(sources, folder)
    except (OSError, ValueError) as error:
        raise CompareError(f'hold-out of the training data: {error}') from error
    for dataset, path in zip(train, kept):
        dataset['ann_file'] = str(path.resolve())
    test_on(cfg, held_out)


def test_on(cfg: Config, ann_file: Path) -> None:
    """Test on other annotations in the format of the first training set, by annotated boxes, in
    place. Type, ``metainfo`` and keypoint converters are those of the training set, the rest of
    the pipeline is the test's.

    Args:
        cfg (Config): The config.
        ann_file (Path): The annotations.

    Raises:
        CompareError: A metric reads annotations that are not the test data's.
    """
    old = {annotations_of(dataset).resolve() for dataset in datasets_of(cfg, 'test')}
    train = copy.deepcopy(cfg.train_dataloader.dataset)
    dataset = next(node for node in dicts(train) if node.get('ann_file'))
    whole = next((node for node in dicts(train) if type_name(node) == 'CombinedDataset'), dataset)
    if whole is not dataset:
        whole['datasets'] = [dataset]
    dataset['ann_file'] = str(ann_file.resolve())  # not below a data_root
    dataset.pop('bbox_file', None)
    dataset['test_mode'] = whole['test_mode'] = True
    cfg.test_dataloader.dataset = as_tested(whole, cfg.test_dataloader.dataset.pipeline)
    for node in dicts(cfg.test_evaluator):
        if node.get('ann_file'):
            if Path(node['ann_file']).resolve() not in old:
                raise CompareError(
                    f'`test_evaluator` reads {node["ann_file"]}, which is not the annotation file '
                    f'of the test data, {", ".join(map(str, sorted(old)))}'
                )
            node['ann_file'] = str(ann_file.resolve())
