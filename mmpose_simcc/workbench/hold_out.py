# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Splits annotations into a part to train on and one to choose by."""

import json
from pathlib import Path
from typing import Tuple

import numpy as np

from ..utils.files import file_sha256, whole_file

FRACTION = 0.2  # of the images, held out
SEED = 0


def hold_out(ann_file: Path, folder: Path) -> Tuple[Path, Path]:
    """Split annotations in COCO's layout by images: a fifth of them, drawn
    with a fixed seed, is held out.

    Args:
        ann_file (Path): A JSON file with ``images`` and ``annotations``.
        folder (Path): Gets the two parts, named by the content of the file;
            they are written once.

    Returns:
        tuple[Path, Path]: Annotations to train on, and those held out.

    Raises:
        ValueError: The file is not in COCO's layout.
    """
    name = f'{Path(ann_file).stem}-{file_sha256(ann_file)[:12]}'
    paths = folder / f'{name}-kept.json', folder / f'{name}-held_out.json'
    if all(path.is_file() for path in paths):
        return paths
    content = json.loads(Path(ann_file).read_text())
    if not isinstance(content, dict) or not {'images', 'annotations'} <= content.keys():
        raise ValueError(f'{ann_file} has no `images` and `annotations`, as files in COCO layout')
    ids = np.array([image['id'] for image in content['images']])
    order = np.random.default_rng(SEED).permutation(len(ids))
    held_out = set(ids[order[: round(FRACTION * len(ids))]].tolist())
    folder.mkdir(parents=True, exist_ok=True)
    for path, wanted in zip(paths, (False, True)):
        part = {
            **content,
            'images': [i for i in content['images'] if (i['id'] in held_out) == wanted],
            'annotations': [
                a for a in content['annotations'] if (a['image_id'] in held_out) == wanted
            ],
        }
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(part))
    return paths
