# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Writes drawn people in COCO's folder layout and annotation format."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Callable, List, Optional

import cv2
import numpy as np

from ...utils.checks import check_int
from ...utils.console import track
from ...utils.files import whole_file
from .person import KEYPOINTS
from .scene import Person, draw_scene

# Raise when the same seed draws other pictures.
VERSION = 4
SPLITS = ('train', 'val')
SKELETON = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9],
    [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]  # fmt: skip


def run_lengths(mask: np.ndarray) -> dict:
    """A mask (H, W) as COCO's uncompressed run lengths, which go down the columns and alternate,
    background first."""
    flat = np.asarray(mask, bool).ravel(order='F')
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return dict(size=list(mask.shape), counts=[0] + counts if flat[0] else counts)


def _annotation(person: Person, image_id: int, index: int) -> dict:
    visible = person.keypoints[:, 2]
    return dict(
        id=image_id * 10 + index,
        image_id=image_id,
        category_id=1,
        iscrowd=0,
        num_keypoints=int((visible > 0).sum()),
        keypoints=[value for x, y, v in person.keypoints.tolist() for value in (x, y, int(v))],
        bbox=[float(value) for value in person.bbox],
        area=float(person.mask.sum()),
        segmentation=run_lengths(person.mask),
    )


def write_image(folder: Path, split: str, seed: int, index: int) -> dict:
    """Draw one image and write it into a folder. It depends on the seed, the split ('train' or
    'val') and its index alone. Returns COCO's ``image`` entry and its ``annotations``."""
    offset = SPLITS.index(split)
    scene = draw_scene(np.random.default_rng((seed, offset, index)))
    image_id = 2 * index + offset + 1  # unique over both splits
    name = f'{image_id:012d}.jpg'
    _, data = cv2.imencode('.jpg', scene.image, (cv2.IMWRITE_JPEG_QUALITY, 92))
    (folder / name).write_bytes(data.tobytes())
    height, width = scene.image.shape[:2]
    return dict(
        image=dict(id=image_id, file_name=name, width=width, height=height, license=1),
        annotations=[_annotation(person, image_id, n) for n, person in enumerate(scene.people)],
    )


def _draw(number: int, workers: int, draw: Callable[[int], dict], title: str) -> List[dict]:
    """``draw(0)`` to ``draw(number - 1)``, in this process or in others."""
    show = partial(track, total=number, description=title)
    if workers == 1:
        return list(show(map(draw, range(number))))
    # Not multiprocessing.Pool: it ends its processes by SIGTERM, whose handler they inherit from
    # this process and which may hang there. OpenCV needs no threads within an image.
    with ProcessPoolExecutor(workers, initializer=cv2.setNumThreads, initargs=(0,)) as executor:
        try:
            return list(show(executor.map(draw, range(number), chunksize=8)))
        except BaseException:
            executor.shutdown(cancel_futures=True)  # what is not begun is left
            raise


def _write_split(out: Path, split: str, number: int, seed: int, workers: int) -> None:
    folder = out / f'{split}2017'
    folder.mkdir(parents=True, exist_ok=True)
    entries = _draw(number, workers, partial(write_image, folder, split, seed), f'draw {folder}')
    content = dict(
        info=dict(description='Drawn people in the format of COCO keypoints', version=str(VERSION)),
        licenses=[dict(id=1, name='Apache License 2.0', url='')],
        images=[entry['image'] for entry in entries],
        annotations=[a for entry in entries for a in entry['annotations']],
        categories=[
            dict(
                id=1,
                name='person',
                supercategory='person',
                keypoints=list(KEYPOINTS),
                skeleton=SKELETON,
            )
        ],
    )
    path = _annotation_file(out, split)
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, separators=(',', ':')))


def _annotation_file(out: Path, split: str) -> Path:
    return out / 'annotations' / f'person_keypoints_{split}2017.json'


def _is_complete(out: Path, split: str, number: int) -> bool:
    images = len(list((out / f'{split}2017').glob('*.jpg')))
    return images == number and _annotation_file(out, split).is_file()


def make_toy_coco(
    out, train: int = 3000, val: int = 500, seed: int = 0, workers: Optional[int] = None
) -> bool:
    """Draw a data set of people in COCO's layout.

    The same arguments give the same bytes, and image i of a split is the same whatever the number
    of images. ``out`` then holds ``annotations/person_keypoints_{train,val}2017.json``,
    ``{train,val}2017/*.jpg`` and ``toy.json``, which records the arguments.

    Args:
        out (str | Path): Folder to write; new, empty, or with the same data.
        train (int): Number of training images.
        val (int): Number of validation images.
        seed (int): Seed.
        workers (int, optional): Processes that draw. Defaults to one for each core.

    Returns:
        bool: False if the data were complete already.

    Raises:
        FileExistsError: ``out`` holds something else.
        ValueError: A number is out of its range.
    """
    out = Path(out)
    workers = check_int('workers', workers or os.cpu_count() or 1, 1)
    numbers = dict(train=check_int('train', train, 1), val=check_int('val', val, 1))
    recipe = dict(version=VERSION, **numbers, seed=check_int('seed', seed, 0))
    record = out / 'toy.json'
    if out.exists() and not out.is_dir():
        raise FileExistsError(f'{out} is a file: name a folder')
    if out.is_dir() and any(out.iterdir()):
        try:
            found = json.loads(record.read_text())
        except (OSError, ValueError):
            found = None
        if found is None:
            raise FileExistsError(f'{out} holds something else than toy data: name a new folder')
        if found != recipe:
            found, wanted = (
                ', '.join(f'{name} {value}' for name, value in each.items())
                for each in (found, recipe)
            )
            raise FileExistsError(
                f'{out} holds other toy data ({found}), wanted {wanted}: name a new folder or '
                'remove this one'
            )
    if record.is_file() and all(_is_complete(out, split, numbers[split]) for split in SPLITS):
        return False
    out.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(recipe) + '\n')
    for split in SPLITS:
        _write_split(out, split, numbers[split], seed, workers)
    return True
