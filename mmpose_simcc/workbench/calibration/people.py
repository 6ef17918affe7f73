# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Draws pictures of a large data set at random, since a calibration does not need all."""

import json
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from ...utils.files import file_sha256, whole_file
from ..data.coco import read_entries

LARGE = 50 * 2**20  # bytes of an annotation file that MMPose should not read as a whole
IMAGE_ID = dict(images='id', annotations='image_id')  # the key of an image's id in each list


def choose_images(img_ids: Sequence[int], number: int) -> np.ndarray:
    """Draw images, always the same ones, until there are enough people.

    Args:
        img_ids (sequence[int]): The image of each person, shape (N,).
        number (int): About how many people.

    Returns:
        np.ndarray: Ids of images.
    """
    images, counts = np.unique(img_ids, return_counts=True)
    order = np.random.default_rng(0).permutation(len(images))
    enough = np.searchsorted(counts[order].cumsum(), number) + 1
    return images[order[:enough]]


def draw_annotations(path: Path, number: int, folder: Path) -> Optional[Path]:
    """Copy some annotations of a large file in COCO's format, without the outlines of people, to a
    small file. MMPose holds what it reads in memory several times.

    Args:
        path (Path): The annotations.
        number (int): About how many people.
        folder (Path): Where to write the file.

    Returns:
        Path: The small file; None if the annotations are not large.

    Raises:
        ValueError: The file is damaged.
    """
    if path.stat().st_size < LARGE:
        return None
    drawn = folder / f'{path.stem}-{file_sha256(path)[:12]}-{number}.json'
    if drawn.is_file():
        return drawn
    shown = [
        entry['image_id']
        for entry in read_entries(path, 'annotations.item')
        if entry.get('num_keypoints', 1) and not entry.get('iscrowd')
    ]
    images = set(choose_images(shown, number).tolist())
    content = dict(categories=list(read_entries(path, 'categories.item')))
    for name, image in IMAGE_ID.items():
        content[name] = [
            {key: value for key, value in entry.items() if key != 'segmentation'}
            for entry in read_entries(path, f'{name}.item')
            if entry[image] in images
        ]
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(drawn) as unfinished:
        unfinished.write_text(json.dumps(content))
    return drawn
