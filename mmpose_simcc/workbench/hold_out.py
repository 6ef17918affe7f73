# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Splits annotations into a part to train on and one to choose by."""

import json
from pathlib import Path
from typing import List, Sequence, Set, Tuple

import numpy as np

from ..utils.files import file_sha256, whole_file

FRACTION = 0.2  # of the images, held out
SEED = 0


def hold_out(sources: Sequence[Tuple[Path, Path]], folder: Path) -> Tuple[List[Path], Path]:
    """Split training sets in COCO's layout by pictures: a fifth of those of the first, drawn with
    a fixed seed and at least one, is held out, and no other set keeps one of these.

    Args:
        sources (list[tuple]): Of each set its annotations, a JSON file with ``images`` and
            ``annotations``, and the folder of its pictures.
        folder (Path): Gets the parts, named by the content of the files.

    Returns:
        tuple[list[Path], Path]: For each set the annotations to train on, and those held out.

    Raises:
        ValueError: A file is not in COCO's layout, or the first set has one picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ann_file, pictures = sources[0]
    content = _read(ann_file)
    images = content['images']
    if len(images) < 2:
        raise ValueError(f'{ann_file} must have 2 images, one to hold out, but has {len(images)}')
    order = np.random.default_rng(SEED).permutation(len(images))
    number = max(1, round(FRACTION * len(images)))
    held_out = {_place(images[i], pictures) for i in order[:number]}
    name = f'{ann_file.stem}-{file_sha256(ann_file)[:12]}'
    path = _write(content, pictures, held_out, True, folder / f'{name}-held_out.json')
    kept = []
    for ann_file, pictures in sources:
        content = content if ann_file == sources[0][0] else _read(ann_file)
        of_first = '' if ann_file == sources[0][0] else f'-without-{name[-12:]}'
        name_kept = f'{ann_file.stem}-{file_sha256(ann_file)[:12]}{of_first}-kept.json'
        kept.append(_write(content, pictures, held_out, False, folder / name_kept))
    return kept, path


def _read(ann_file: Path) -> dict:
    content = json.loads(ann_file.read_text(encoding='utf-8'))
    if not isinstance(content, dict) or not {'images', 'annotations'} <= content.keys():
        raise ValueError(f'{ann_file} has no `images` and `annotations`, as files in COCO layout')
    return content


def _place(image: dict, pictures: Path) -> Path:
    return (pictures / str(image.get('file_name', image['id']))).resolve()


def _write(content: dict, pictures: Path, held_out: Set[Path], wanted: bool, path: Path) -> Path:
    """The images that are held out, or the others, with their annotations. Written once."""
    if not path.is_file():
        images = [i for i in content['images'] if (_place(i, pictures) in held_out) == wanted]
        ids = {image['id'] for image in images}
        annotations = [a for a in content['annotations'] if a['image_id'] in ids]
        part = {**content, 'images': images, 'annotations': annotations}
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(part))
    return path
