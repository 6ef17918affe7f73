# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the values of MMPose's metrics mean."""

from typing import TypeVar

import numpy as np

Number = TypeVar('Number')

LOWER_IS_BETTER = ('EPE', 'NME', 'ECE')
# those whose tables name the unit; the others are parts of one
UNITS = dict(EPE='px', NME='%', ECE='%')
# of scores, not of keypoints
RELIABILITY = ('ECE', 'AUROC')


def short_name(key: str) -> str:
    """``'AP'`` of ``'coco/AP'``."""
    return key.rpartition('/')[2]


def lower_is_better(key: str) -> bool:
    """Whether a metric, by MMPose's name, is an error."""
    return short_name(key) in LOWER_IS_BETTER


def goodness(value: Number, key: str) -> Number:
    """A metric's value, or an array of them, such that larger is better."""
    return -value if lower_is_better(key) else value


def title(key: str) -> str:
    """A metric's short name, with its unit if it is an error."""
    name = short_name(key)
    return f'{name} ({UNITS[name]})' if name in UNITS else name


def keypoint_oks(
    squared_distances: np.ndarray, areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    r"""COCO's similarity of a keypoint, :math:`\exp(-d^2 / (2 s^2 k^2))` with k twice the data
    set's sigma.

    Args:
        squared_distances (np.ndarray): Pixels, shape (..., K).
        areas (np.ndarray): s^2 of each person, shape (...).
        sigmas (np.ndarray): Shape (K,).

    Returns:
        np.ndarray: In [0, 1], shape (..., K).
    """
    scale = 2 * areas[..., None] * (2 * np.asarray(sigmas)) ** 2 + np.spacing(1)
    return np.exp(-squared_distances / scale)
