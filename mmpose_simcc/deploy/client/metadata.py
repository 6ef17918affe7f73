# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Reads the metadata of a model's file."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import numpy as np

from .errors import ClientError

INPUTS = ('float', 'bgr', 'uint8')
OUTPUTS = ('simcc', 'keypoints', 'raw')

# A file may also have entries of other programs, and of later versions.
NAMES = (
    'input',
    'output',
    'input_size',
    'mean',
    'std',
    'flip_channels',
    'use_udp',
    'bbox_padding',
    'keypoint_names',
    'skeleton',
    'keypoint_colors',
    'skeleton_colors',
)
# of SimCC models, and of calibrated ones
OPTIONAL_NAMES = ('simcc_split_ratio', 'keypoint_radii', 'instance_score')
INSTANCE_SCORES = ('bbox_keypoint', 'keypoint')


def read_metadata(path: Union[str, Path], text: Dict[str, str]) -> dict:
    """Read the metadata that tools/export_onnx.py writes.

    Args:
        path (str | Path): The file.
        text (dict): All its metadata, each of ours as JSON.

    Returns:
        dict: The values of ours.

    Raises:
        ClientError: Some are missing, or cannot be a model's.
    """
    missing = [name for name in NAMES if name not in text]
    if missing:
        raise ClientError(
            f'{path} is another model than tools/export_onnx.py writes: '
            f'its metadata have no {", ".join(missing)}'
        )
    values, damaged = {}, []
    for name in (*NAMES, *OPTIONAL_NAMES):
        if name in text:
            try:
                values[name] = json.loads(text[name])
            except ValueError:
                damaged.append(name)
    damaged = damaged or _damaged(values)
    if damaged:
        raise ClientError(f'{path}: the metadata are damaged: {", ".join(damaged)}')
    return values


def _damaged(values: dict) -> List[str]:
    """Names of the values that cannot be a model's."""
    names, links = values['keypoint_names'], values['skeleton']
    K = len(names) if isinstance(names, list) else 0
    L = len(links) if isinstance(links, list) else 0
    fine = dict(
        input=values['input'] in INPUTS,
        output=values['output'] in OUTPUTS,
        input_size=_are_integers(values['input_size'], (2,), 1, math.inf),
        mean=_are_numbers(values['mean'], (3,)),
        std=_are_numbers(values['std'], (3,)) and min(values['std']) > 1e-6,
        flip_channels=isinstance(values['flip_channels'], bool),
        use_udp=isinstance(values['use_udp'], bool),
        bbox_padding=_are_numbers(values['bbox_padding'], ()) and values['bbox_padding'] > 0,
        keypoint_names=K > 0 and all(isinstance(name, str) for name in names),
        skeleton=_are_integers(links, (L, 2), 0, K),
        keypoint_colors=_are_integers(values['keypoint_colors'], (K, 3), 0, 256),
        skeleton_colors=_are_integers(values['skeleton_colors'], (L, 3), 0, 256),
        instance_score=values.get('instance_score') in (None, *INSTANCE_SCORES),
    )
    if values['output'] == 'simcc':
        ratio = values.get('simcc_split_ratio')
        fine['simcc_split_ratio'] = _are_numbers(ratio, ()) and ratio >= 1
    if values.get('keypoint_radii') is not None:
        fine['keypoint_radii'] = _are_radii(values['keypoint_radii'], K)
    return [name for name, is_fine in fine.items() if not is_fine]


def _are_radii(radii: Any, K: int) -> bool:
    """Whether these are edges between scores, and pixels for each of the intervals, of K
    keypoints."""
    if not isinstance(radii, dict):
        return False
    edges, pixels = radii.get('edges'), radii.get('pixels')
    lists = isinstance(edges, list) and isinstance(pixels, list)
    return (
        lists
        and len(edges) == len(pixels) == K
        and all(
            isinstance(starts, list)
            and _are_numbers(starts, (len(starts),))
            and _are_numbers(rows, (len(starts) + 1, 2))
            for starts, rows in zip(edges, pixels)
        )
    )


def _are_numbers(values: Any, shape: Tuple[int, ...]) -> bool:
    """Whether these are numbers of a sensible size, in lists of this shape."""
    try:
        array = np.array(values)
    except ValueError:  # lists of several lengths
        return False
    if not array.size and 0 in shape:  # a list without rows
        return array.shape == shape[:1]
    return array.shape == shape and array.dtype.kind in 'iuf' and (np.abs(array) < 1e6).all()


def _are_integers(values: Any, shape: Tuple[int, ...], low: int, high: float) -> bool:
    """Whether these are integers in [low, high), in lists of this shape."""
    if not _are_numbers(values, shape):
        return False
    array = np.array(values)
    return not array.size or array.dtype.kind != 'f' and low <= array.min() and array.max() < high
