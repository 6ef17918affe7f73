# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Reads the metadata of a model's file."""

import json
import math
from typing import Dict, List, Tuple

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
SIMCC_NAMES = ('simcc_split_ratio',)
CALIBRATION_NAMES = ('keypoint_radii', 'instance_score')
INSTANCE_SCORES = ('bbox_keypoint', 'keypoint')


def parse_metadata(text: Dict[str, str]) -> Tuple[dict, List[str], List[str]]:
    """Read the metadata that tools/export_onnx.py writes.

    Args:
        text (dict): All metadata of a file, each of ours as JSON.

    Returns:
        tuple:
        - values (dict): Those of ours.
        - missing (list[str]): Names that are not there.
        - damaged (list[str]): Names of values that cannot be a model's.
    """
    missing = [name for name in NAMES if name not in text]
    if missing:
        return {}, missing, []
    values = {}
    for name in (*NAMES, *SIMCC_NAMES, *CALIBRATION_NAMES):
        if name in text:
            try:
                values[name] = json.loads(text[name])
            except ValueError:
                return {}, [], [name]
    return values, [], _damaged(values)


def _damaged(values: dict) -> List[str]:
    """Names of the values that cannot be a model's."""
    names, links = values['keypoint_names'], values['skeleton']
    K = len(names) if isinstance(names, list) else 0
    fine = dict(
        input=values['input'] in INPUTS,
        output=values['output'] in OUTPUTS,
        input_size=_rows([values['input_size']], 2, 1, math.inf),
        mean=_numbers(values['mean'], 3),
        std=_numbers(values['std'], 3) and min(values['std']) > 1e-6,
        flip_channels=isinstance(values['flip_channels'], bool),
        use_udp=isinstance(values['use_udp'], bool),
        bbox_padding=_numbers([values['bbox_padding']], 1) and values['bbox_padding'] > 0,
        keypoint_names=K > 0 and all(isinstance(name, str) for name in names),
        skeleton=_rows(links, 2, 0, K),
        keypoint_colors=_rows(values['keypoint_colors'], 3, 0, 256)
        and len(values['keypoint_colors']) == K,
        skeleton_colors=_rows(values['skeleton_colors'], 3, 0, 256)
        and isinstance(links, list)
        and len(values['skeleton_colors']) == len(links),
    )
    if values['output'] == 'simcc':
        ratio = values.get('simcc_split_ratio')
        fine['simcc_split_ratio'] = _numbers([ratio], 1) and ratio >= 1
    if values.get('keypoint_radii') is not None:
        fine['keypoint_radii'] = _are_radii(values['keypoint_radii'], K)
    fine['instance_score'] = values.get('instance_score') in (None, *INSTANCE_SCORES)
    return [name for name, is_fine in fine.items() if not is_fine]


def _are_radii(radii, K: int) -> bool:
    """Whether these are edges and pixels of K keypoints."""
    edges, pixels = (radii.get('edges'), radii.get('pixels')) if isinstance(radii, dict) else (0, 0)
    return (
        isinstance(edges, list)
        and isinstance(pixels, list)
        and len(edges) == len(pixels) == K
        and all(
            isinstance(rows, list)
            and len(rows) > 0
            and _numbers(starts, len(rows) - 1)
            and all(_numbers(row, 2) for row in rows)
            for starts, rows in zip(edges, pixels)
        )
    )


def _numbers(values, count: int) -> bool:
    """Whether these are so many numbers of a sensible size."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(
            isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6
            for value in values
        )
    )


def _rows(rows, width: int, low: int, high: float) -> bool:
    """Whether these are rows of integers in [low, high)."""
    return isinstance(rows, list) and all(
        _numbers(row, width)
        and all(isinstance(value, int) and low <= value < high for value in row)
        for row in rows
    )
