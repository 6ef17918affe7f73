# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Measures the sigmas of keypoints on pictures that several people annotated."""

from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from .coco import read_annotations


def measure_sigmas(files: Sequence[Path]) -> np.ndarray:
    """How far annotators are apart on each keypoint, relative to the size of a person.

    COCO's definition: with d the distance of a point to the mean of its n annotations and s² the
    person's ``area``, sigma² is the mean of n / (n - 1) d² / s². The factor corrects for the mean,
    which is computed from the same points; two annotations at a distance D give D² / (2 s²).

    Args:
        files (list[Path]): Annotations in COCO's format, a file for each annotator. A picture is
            known by its ``file_name``, and its people are matched by their points.

    Returns:
        np.ndarray: Shape (K,); NaN for a keypoint that no two annotators labelled.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is not in COCO's format, or no two of them have a picture in common.
    """
    people: Dict[str, List[List[dict]]] = defaultdict(list)  # by picture, those of each annotator
    for path in files:
        content = read_annotations(Path(path))
        try:
            names = {image['id']: image['file_name'] for image in content['images']}
            of_picture = defaultdict(list)
            for annotation in content['annotations']:
                of_picture[names[annotation['image_id']]].append(
                    (np.reshape(annotation['keypoints'], (-1, 3)), annotation['area'])
                )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not in COCO's keypoint format: {error!r}") from None
        for name, found in of_picture.items():
            people[name].append(found)
    squares, counts = 0.0, 0.0
    for first, *others in people.values():
        same = [[person] for person in first]
        for other in others:
            cost = np.array([[_distance(a[0], b[0]) for b in other] for a in first])
            for row, column in zip(*linear_sum_assignment(cost)):
                same[row].append(other[column])
        for annotations in same:
            points = np.stack([person[0] for person in annotations])
            seen = points[..., 2:] > 0
            number = seen.sum(0)  # (K, 1)
            mean = (points[..., :2] * seen).sum(0) / np.maximum(number, 1)
            offset = np.where(seen, points[..., :2] - mean, 0)
            area = np.mean([person[1] for person in annotations])
            counts = counts + np.where(number > 1, number, 0)[:, 0]
            spread = (offset**2).sum((0, 2)) * number[:, 0] / np.maximum(number[:, 0] - 1, 1) / area
            squares = squares + np.where(number[:, 0] > 1, spread, 0)
    if not np.any(counts):
        raise ValueError(f'no picture is annotated in two of {", ".join(map(str, files))}')
    with np.errstate(invalid='ignore'):
        return np.sqrt(squares / np.where(counts > 0, counts, np.nan))


def _distance(points: np.ndarray, others: np.ndarray) -> float:
    """Mean distance over the points that both have; large if they have none in common."""
    both = (points[:, 2] > 0) & (others[:, 2] > 0)
    return float(np.linalg.norm((points - others)[both, :2], axis=1).mean()) if both.any() else 1e9
