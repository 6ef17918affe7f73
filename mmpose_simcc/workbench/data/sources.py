# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Annotations of other tools, as the labels of sleap-io."""

import json
import re
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set, Tuple

import numpy as np
import yaml

from .coco import picture_size

PICTURES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')


def read_labels(source: Path, images: Optional[Path] = None) -> Dict[str, object]:
    """Read what people annotated.

    Args:
        source (Path): File or folder, see :func:`~mmpose_simcc.workbench.data.import_data`.
        images (Path, optional): Folder of the pictures of a COCO or Label Studio file.

    Returns:
        dict: ``sleap_io.Labels`` by part (``'train'``, ``'val'``, ``'test'``), under ``'all'``
        where the source has no parts. No part is empty.

    Raises:
        ImportError: sleap-io is not installed.
        ValueError: The source cannot be read, or has no annotated pictures.
    """
    import sleap_io

    try:
        if _is_yolo(source):
            splits = _read_yolo(source / 'data.yaml' if source.is_dir() else source)
        elif (source / 'config.yaml').is_file():
            splits = {'all': sleap_io.load_dlc_project(source)}
        elif _is_label_studio(source):
            splits = {'all': _read_label_studio(source, images)}
        elif images is not None:
            splits = {'all': sleap_io.load_coco(source, dataset_root=images)}
        else:
            loaded = sleap_io.load_file(source)
            splits = dict(loaded) if hasattr(loaded, 'keys') else {'all': loaded}
    except Exception as error:  # of many readers
        raise ValueError(
            f'{source} cannot be read: {" ".join(str(error).split()) or type(error).__name__}'
        ) from error
    cleaned = {}
    for split, labels in splits.items():
        labels = labels.copy()
        labels.remove_predictions()  # what people annotated, not what a model said
        if len(labels):
            cleaned[split] = labels
    if not cleaned:
        raise ValueError(
            f'{source} has no annotated pictures'
            + ('' if images else '; pictures of a COCO file elsewhere: name their folder')
        )
    return cleaned


def _is_yolo(source: Path) -> bool:
    if source.is_dir():
        return (source / 'data.yaml').is_file()
    return source.suffix in ('.yaml', '.yml') and 'kpt_shape' in source.read_text(encoding='utf-8')


def _read_yolo(path: Path) -> Dict[str, object]:
    """YOLO-pose as Ultralytics reads it. sleap-io's reader takes one of its layouts, leaves out
    people whose visibility is written as 2.0, and reads neither ``flip_idx`` nor ``kpt_names``."""
    import sleap_io

    info = yaml.safe_load(path.read_text(encoding='utf-8'))
    if 'kpt_shape' not in info:
        raise ValueError(f'{path.name} has no `kpt_shape`: boxes without keypoints?')
    number, columns = info['kpt_shape']
    names = info.get('kpt_names') or info.get('node_names')  # the second is sleap-io's
    if isinstance(names, dict):  # of each class, all of one length
        names = next(iter(names.values()))
    names = names or [f'point_{index}' for index in range(number)]
    mirrored = info.get('flip_idx') or range(number)
    if not len(names) == len(mirrored) == number:
        raise ValueError(
            f'{path.name}: `kpt_shape` means {number} keypoints, `flip_idx` has {len(mirrored)}, '
            f'their names are {len(names)}'
        )
    skeleton = sleap_io.Skeleton(
        names,
        edges=info.get('skeleton') or (),
        symmetries=[(names[a], names[b]) for a, b in enumerate(mirrored) if a < b],
    )
    splits = {}
    for split in ('train', 'val', 'test'):
        if not info.get(split):
            continue
        files = [
            file for file in _pictures_of_yolo(path, info, split) if _label_file(file).is_file()
        ]
        video = sleap_io.Video(filename=[str(file) for file in files], open_backend=False)
        frames = []
        for index, file in enumerate(files):
            frame = sleap_io.LabeledFrame(video=video, frame_idx=index)
            size = picture_size(file)
            for box, points in _people_of_yolo(_label_file(file), number, columns):
                box, points = box * np.tile(size, 2), points * size
                person = sleap_io.Instance.from_numpy(points, skeleton=skeleton)
                frame.instances.append(person)
                frame.bboxes.append(
                    sleap_io.UserBoundingBox.from_xywh(*box.tolist(), instance=person)
                )
            if frame.instances:
                frames.append(frame)
        splits[split] = sleap_io.Labels(frames)
    return splits


def _pictures_of_yolo(path: Path, info: dict, split: str) -> Iterator[Path]:
    """The pictures of a part: of folders, or of text files that list them."""
    entries = info[split] if isinstance(info[split], list) else [info[split]]
    for entry in entries:
        # `path` is often relative to a folder of Ultralytics's own, and Roboflow writes
        # ../train/images for train/images, as Ultralytics knows
        places = [path.parent / (info.get('path') or '') / entry, path.parent / entry]
        places.append(path.parent / re.sub(r'^(\.\./)+', '', entry))
        place = next((place for place in places if place.exists()), None)
        if place is None:
            raise ValueError(f'`{split}` of {path.name} is {entry}, which is not in {path.parent}')
        if place.is_dir():
            files = sorted(place.rglob('*'))
        else:
            files = [place.parent / line for line in place.read_text(encoding='utf-8').split('\n')]
        yield from (file for file in files if file.suffix.lower() in PICTURES)


def _label_file(picture: Path) -> Path:
    """The last folder that is named images is named labels."""
    parts = list(picture.with_suffix('.txt').parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == 'images':
            parts[index] = 'labels'
            break
    return Path(*parts)


def _people_of_yolo(path: Path, number: int, columns: int):
    """Box x, y, w, h (left, top) and points (K, 2) of each line, as parts of the picture; NaN for
    a point that is not labelled."""
    for index, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        values = np.array(line.split(), float)
        if len(values) in (0, 5):  # a box alone
            continue
        if len(values) != 5 + number * columns:
            raise ValueError(
                f'line {index} of {path} has {len(values)} numbers, `kpt_shape` '
                f'{[number, columns]} means {5 + number * columns}'
            )
        points = values[5:].reshape(number, columns)
        labelled = points[:, 2] > 0 if columns == 3 else (points >= 0).all(1)
        x, y, w, h = values[1:5]
        box = np.array([x - w / 2, y - h / 2, w, h])
        yield box, np.where(labelled[:, None], points[:, :2], np.nan)


def _is_label_studio(source: Path) -> bool:
    if source.suffix != '.json':
        return False
    content = json.loads(source.read_text(encoding='utf-8'))
    return isinstance(content, list) and any('data' in t for t in content if isinstance(t, dict))


def _read_label_studio(source: Path, images: Optional[Path]):
    """An export of Label Studio in its own JSON. sleap-io finds pictures in files that it wrote
    alone, and gives the keypoints in another order at each call."""
    import sleap_io

    tasks, names = [], set()
    for task in json.loads(source.read_text(encoding='utf-8')):
        made = [a for a in task.get('annotations') or () if not a.get('was_cancelled')]
        if not made:
            continue
        made[0]['result'], found = _related(task, made[0]['result'])
        names |= found
        if 'video' not in (task.get('meta') or {}):
            picture = _picture_of_task(task, images or source.parent)
            width, height = picture_size(picture)
            video = dict(filename=[str(picture)], frame_idx=0, shape=[1, height, width, 3])
            task = dict(task, meta=dict(video=video))
        tasks.append(dict(task, annotations=made))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'tasks.json')
        path.write_text(json.dumps(tasks), encoding='utf-8')
        return sleap_io.load_labelstudio(path, skeleton=sorted(names))


def _related(task: dict, result: List[dict]) -> Tuple[List[dict], Set[str]]:
    """What was drawn in a picture, without boxes that no point is related to, and the names of its
    keypoints. Whose they are has to be clear where a name stands twice."""
    related = {r[end] for r in result if r['type'] == 'relation' for end in ('from_id', 'to_id')}
    points = [r for r in result if r['type'] == 'keypointlabels']
    alone = [r['value']['keypointlabels'][0] for r in points if r['id'] not in related]
    for name in alone:
        if alone.count(name) > 1:
            raise ValueError(
                f'task {task.get("id")} has several {name!r}: relate the points of each person to '
                'a rectangle in Label Studio'
            )
    # sleap-io wants points for each box
    kept = [r for r in result if r['type'] != 'rectanglelabels' or r['id'] in related]
    return kept, {r['value']['keypointlabels'][0] for r in points}


def _picture_of_task(task: dict, folder: Path) -> Path:
    """Label Studio names a picture by its address, and puts eight digits before an uploaded one."""
    for value in task['data'].values():
        if isinstance(value, str) and Path(value).suffix.lower() in PICTURES:
            name = re.split(r'[/\\=]', value)[-1]
            for each in (name, re.sub(r'^[0-9a-f]{8}-', '', name)):
                if (folder / each).is_file():
                    return folder / each
            raise ValueError(f'{name} of task {task.get("id")} is not in {folder}: name --images')
    raise ValueError(f'task {task.get("id")} has no picture in `data`')
