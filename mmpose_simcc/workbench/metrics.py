# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the values of MMPose's metrics mean, and how COCO's metric writes its file."""

from typing import Dict, List, Optional, TypeVar

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import dump
from mmpose.evaluation.metrics import (
    AUC,
    EPE,
    NME,
    CocoMetric,
    CocoWholeBodyMetric,
    JhmdbPCKAccuracy,
    MpiiPCKAccuracy,
    PCKAccuracy,
)

from ..utils.files import whole_file

Number = TypeVar('Number')

DEFAULT_SIGMA = 0.025  # of OKS, for data without COCO's constants, such as faces: that of eyes

LOWER_IS_BETTER = ('EPE', 'NME', 'ECE')
# those whose tables name the unit; the others are parts of one
UNITS = dict(EPE='px', NME='%', ECE='%')
# of scores, not of keypoints
RELIABILITY = ('ECE', 'AUROC')
# PCK by what it is normalised by
PCK_NAMES = dict(bbox='PCK', head='PCKh', torso='tPCK')
MPII_PARTS = ('Head', 'Shoulder', 'Elbow', 'Wrist', 'Hip', 'Knee', 'Ankle')
JHMDB_PARTS = ('Head', 'Sho', 'Elb', 'Wri', 'Hip', 'Knee', 'Ank')
COCO_NAMES = ('AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)')
COCO_NAMES += tuple(name.replace('AP', 'AR') for name in COCO_NAMES)
CROWD_NAMES = ('AP', 'AP .5', 'AP .75', 'AR', 'AR .5', 'AR .75', 'AP(E)', 'AP(M)', 'AP(H)')


def short_name(key: str) -> str:
    """``'AP'`` of ``'coco/AP'``."""
    return key.rpartition('/')[2]


def lower_is_better(key: str) -> bool:
    """Whether a metric, by MMPose's name, is an error."""
    return short_name(key) in LOWER_IS_BETTER


def goodness(value: Number, key: str) -> Number:
    """A metric's value, or an array of them, such that larger is better."""
    return -value if lower_is_better(key) else value


def with_unit(name: str) -> str:
    """A metric's name, with its unit if it is an error."""
    unit = UNITS.get(short_name(name))
    return f'{name} ({unit})' if unit else name


def keypoint_oks(offsets: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    r"""COCO's similarity of a keypoint, :math:`\exp(-d^2 / (2 s^2 k^2))` with k twice the data
    set's sigma.

    Args:
        offsets (np.ndarray): From the truth, in pixels, shape (..., K, 2).
        areas (np.ndarray): s^2 of each person, shape (...).
        sigmas (np.ndarray): Shape (K,).

    Returns:
        np.ndarray: In [0, 1], with the dtype of the offsets, shape (..., K).
    """
    scale = 2 * np.asarray(areas)[..., None] * (2 * np.asarray(sigmas)) ** 2 + np.spacing(1)
    similarity = offsets[..., 0] ** 2 + offsets[..., 1] ** 2
    similarity /= -scale.astype(similarity.dtype)  # in place: calibration has many
    return np.exp(similarity, out=similarity)


def value_names(metric: BaseMetric) -> Optional[List[str]]:
    """The names of the values that one of MMPose's metrics gives, without its
    prefix; None of a metric whose values are not known before it has some."""
    kind = type(metric)
    if kind in (CocoMetric, CocoWholeBodyMetric) and not metric.format_only:
        return [*(CROWD_NAMES if metric.iou_type == 'keypoints_crowd' else COCO_NAMES)]
    if kind is PCKAccuracy:
        return [PCK_NAMES[item] for item in metric.norm_item]
    if kind is MpiiPCKAccuracy and 'head' in metric.norm_item:
        return ['PCK', 'PCK@0.1', *(f'{part} PCK' for part in MPII_PARTS)]
    if kind is JhmdbPCKAccuracy:
        totals = [PCK_NAMES[item] for item in metric.norm_item if item in ('bbox', 'torso')]
        return totals + [f'{part} {total}' for total in totals for part in JHMDB_PARTS]
    return [kind.__name__] if kind in (EPE, NME, AUC) else None


# what COCO's metric of whole bodies calls the keypoints of a part: by its attributes, in its file
_WHOLE_BODY = dict(
    body_num='keypoints',
    foot_num='foot_kpts',
    face_num='face_kpts',
    left_hand_num='lefthand_kpts',
    right_hand_num='righthand_kpts',
)


def write_compactly(metric: BaseMetric) -> bool:
    """Let COCO's metric write the same results one by one and without white space.

    By itself it makes objects of all first, and text half of which is white space, which takes a
    third of the metric's time.

    Args:
        metric (BaseMetric): An instance, which alone is changed; one of another metric, or that
            writes results by code of its own, is not.

    Returns:
        bool: Whether it is.
    """
    stock = getattr(type(metric), 'results2json', None)
    whole_body = stock is CocoWholeBodyMetric.results2json
    if whole_body:
        names = [*_WHOLE_BODY.values()]
        ends = np.cumsum([getattr(metric, size) for size in _WHOLE_BODY])[:-1]
    elif stock is CocoMetric.results2json:
        names, ends = ['keypoints'], []
    else:
        return False

    def row(instance: dict) -> dict:
        parts = np.split(instance['keypoints'], ends)
        result = {name: part.ravel().tolist() for name, part in zip(names, parts)}
        if 'bbox' in instance and not whole_body:
            result['bbox'] = instance['bbox'].tolist()
        return dict(
            result,
            image_id=instance['img_id'],
            category_id=1 if whole_body else instance['category_id'],
            score=float(instance['score']),
        )

    def results2json(keypoints: Dict[int, List[dict]], outfile_prefix: str) -> None:
        instances = (instance for image in keypoints.values() for instance in image)
        with (
            whole_file(f'{outfile_prefix}.keypoints.json') as path,
            open(path, 'w', encoding='utf-8') as file,
        ):
            file.write('[')
            for i, instance in enumerate(instances):
                file.write((',\n' if i else '') + dump(row(instance), file_format='json'))
            file.write(']')

    metric.results2json = results2json
    return True
