# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds the annotations that a config names, and reads files of COCO's size."""

import copy
import json
from pathlib import Path
from typing import Any, Iterator, List, Sequence, Tuple

import ijson
from mmengine.config import Config
from PIL import Image

from ...utils.configs import dicts, type_name


def datasets_of(cfg: Config, split: str) -> List[dict]:
    """The configs of the data sets that read annotations, also of those inside a wrapper.

    Args:
        cfg (Config): A config.
        split (str): ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        list[dict]: Parts of the config; empty if it has no such data loader.
    """
    return [d for d in dicts(cfg.get(f'{split}_dataloader')) if d.get('ann_file')]


def path_of(dataset: dict, name: str) -> Path:
    """The path of a file or folder that the config of a data set names."""
    return Path(dataset.get('data_root') or '', name)


def annotations_of(dataset: dict) -> Path:
    """The annotation file of a data set."""
    return path_of(dataset, dataset['ann_file'])


def pictures_of(dataset: dict) -> Path:
    """The folder of a data set's pictures."""
    return path_of(dataset, (dataset.get('data_prefix') or {}).get('img', ''))


def picture_size(path: Path) -> Tuple[int, int]:
    """Width and height of a picture as OpenCV, and so MMPose, reads it: turned as its EXIF
    orientation says.

    Args:
        path (Path): The file.

    Raises:
        OSError: It cannot be read.
    """
    with Image.open(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap both
    return (height, width) if turned else (width, height)


def _converters(dataset: dict) -> List[dict]:
    steps = dataset.get('pipeline') or ()
    return [step for step in steps if type_name(step) == 'KeypointConverter']


def as_tested(dataset: dict, pipeline: Sequence[dict]) -> dict:
    """A training set that is read as the test data are. It keeps its keypoint converters, since
    they decide what a keypoint is.

    Args:
        dataset (dict): Config of a training set, or of a wrapper around some.
        pipeline (list[dict]): The pipeline of the test data.

    Returns:
        dict: Config of the same data with this pipeline.
    """
    dataset = copy.deepcopy(dataset)
    inner = dataset.get('datasets') or []
    if type_name(dataset) == 'CombinedDataset':  # its pipeline follows those of its parts
        for each in inner:
            each['pipeline'] = _converters(each)
    elif inner:
        dataset['datasets'] = [as_tested(each, pipeline) for each in inner]
        return dataset
    elif 'dataset' in dataset:
        dataset['dataset'] = as_tested(dataset['dataset'], pipeline)
        return dataset
    steps = [step for step in pipeline if type_name(step) != 'KeypointConverter']
    loaded = bool(steps) and type_name(steps[0]) == 'LoadImage'
    dataset['pipeline'] = [*steps[:loaded], *_converters(dataset), *steps[loaded:]]
    return dataset


def read_annotations(path: Path) -> Any:
    """Read an annotation file without ``segmentation``, the outlines of people, which are more
    than half of COCO's own files.

    Args:
        path (Path): The file.

    Returns:
        dict | list: Its content, which is a list in MPII's format.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON.
    """

    def without_outline(entry: dict) -> dict:
        entry.pop('segmentation', None)
        return entry

    with open(path, encoding='utf-8') as file:
        try:
            return json.load(file, object_hook=without_outline)
        except ValueError as error:
            raise ValueError(f'{path} is not JSON: {error}') from None


def read_entries(path: Path, where: str) -> Iterator[Any]:
    """Read a list of a JSON file entry by entry, in hardly any memory. Unlike in
    :func:`read_annotations`, NaN is an error.

    Args:
        path (Path): The file.
        where (str): Its place as ijson names it, such as ``'annotations.item'``.

    Raises:
        ValueError: The file is damaged.
    """
    with open(path, 'rb') as file:
        try:
            yield from ijson.items(file, where, use_float=True)
        except ijson.JSONError as error:
            raise ValueError(f'{path} is not in COCO format: {error}') from error
