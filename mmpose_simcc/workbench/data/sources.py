# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Reads annotations of other tools, as ``Labels`` of sleap-io."""

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
    """Read what people annotated, without a model's predictions.

    Args:
        source (Path): File or folder, see :func:`~mmpose_simcc.workbench.data.import_data`.
        images (Path, optional): Folder of the pictures of a COCO or Label Studio file.

    Returns:
        dict: ``sleap_io.Labels`` by split (``'train'``, ``'val'``, ``'test'``), under ``'all'``
        if the source has no splits. None is empty.

    Raises:
        ImportError: sleap-io is not installed.
        ValueError: The source cannot be read, or has no annotated pictures.
    """
    import sleap_io

    try:
        tasks = _label_studio_tasks(source)
        if tasks is not None:
            splits = {'all': _read_label_studio(tasks, images or source.parent)}
        elif _is_yolo(source):
            splits = _read_yolo(source / 'data.yaml' if source.is_dir() else source)
        elif (source / 'config.yaml').is_file():
            splits = {'all': sleap_io.load_dlc_project(source)}
        elif images is not None:
            splits = {'all': sleap_io.load_coco(source, dataset_root=images)}
        else:
            loaded = sleap_io.load_file(source)
            splits = dict(loaded) if hasattr(loaded, 'keys') else {'all': loaded}
    except Exception as error:  # sleap-io's readers raise many kinds
        raise ValueError(
            f'{source} cannot be read: {" ".join(str(error).split()) or type(error).__name__}'
        ) from error
    cleaned = {}
    for split, labels in splits.items():
        labels = labels.copy()
        labels.remove_predictions()
        if len(labels):
            cleaned[split] = labels
    if not cleaned:
        raise ValueError(
            f'{source} has no annotated pictures'
            + ('' if images else '; if the pictures of a COCO file lie elsewhere, name --images')
        )
    return cleaned


def _is_yolo(source: Path) -> bool:
    if source.is_dir():
        return (source / 'data.yaml').is_file()
    return source.suffix in ('.yaml', '.yml') and 'kpt_shape' in source.read_text(encoding='utf-8')


def _read_yolo(path: Path) -> Dict[str, object]:
    """Read YOLO-pose as Ultralytics does. sleap-io's reader knows one of its layouts only, leaves
    out people whose visibility is written as 2.0, and ignores ``flip_idx`` and ``kpt_names``."""
    import sleap_io

    info = yaml.safe_load(path.read_text(encoding='utf-8'))
    if 'kpt_shape' not in info:
        raise ValueError(f'{path.name} has no `kpt_shape`: boxes without keypoints?')
    number, columns = info['kpt_shape']
    names = info.get('kpt_names') or info.get('node_names')  # the second is sleap-io's
    if isinstance(names, dict):  # a list for each class, all of one length
        names = next(iter(names.values()))
    names = names or [f'point_{index}' for index in range(number)]
    mirrored = info.get('flip_idx') or range(number)
    if not len(names) == len(mirrored) == number:
        raise ValueError(
            f'{path.name}: `kpt_shape` has {number} keypoints, `flip_idx` {len(mirrored)}, and '
            f'there are {len(names)} names'
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
    """The pictures of a split, which names folders, or text files that list pictures."""
    entries = info[split] if isinstance(info[split], list) else [info[split]]
    for entry in entries:
        # `path` is often relative to Ultralytics's own folder of data sets, and Roboflow writes
        # ../train/images for train/images; Ultralytics reads both
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
    """Where the labels of a picture are: the last folder named images becomes labels."""
    return Path(re.sub('^(.*/)?images/', r'\1labels/', picture.with_suffix('.txt').as_posix()))


def _people_of_yolo(path: Path, number: int, columns: int):
    """The box (left, top, width, height) and the points (K, 2) of each line, in fractions of the
    picture; NaN for points that are not labelled."""
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


def _label_studio_tasks(source: Path) -> Optional[List[dict]]:
    """The tasks in Label Studio's own JSON; None if it is another file."""
    text = source.read_text(encoding='utf-8') if source.suffix == '.json' else ''
    if not text.lstrip().startswith('['):  # COCO's is an object
        return None
    tasks = [task for task in json.loads(text) if isinstance(task, dict)]
    return tasks if any('data' in task for task in tasks) else None


def _read_label_studio(tasks: List[dict], images: Path):
    """Read tasks of Label Studio. By itself sleap-io finds only pictures in files that it wrote,
    and gives the keypoints in another order each time."""
    import sleap_io

    annotated, names = [], set()
    for task in tasks:
        made = [a for a in task.get('annotations') or () if not a.get('was_cancelled')]
        if not made:
            continue
        made[0]['result'], found = _related(task, made[0]['result'])
        names |= found
        if 'video' not in (task.get('meta') or {}):
            picture = _picture_of_task(task, images)
            width, height = picture_size(picture)
            video = dict(filename=[str(picture)], frame_idx=0, shape=[1, height, width, 3])
            task = dict(task, meta=dict(video=video))
        annotated.append(dict(task, annotations=made))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'tasks.json')
        path.write_text(json.dumps(annotated), encoding='utf-8')
        return sleap_io.load_labelstudio(path, skeleton=sorted(names))


def _related(task: dict, result: List[dict]) -> Tuple[List[dict], Set[str]]:
    """What was drawn in a picture, without the boxes that no point is related to (sleap-io expects
    points in each), and the names of its keypoints.

    Raises:
        ValueError: A name occurs twice without a relation that says whose point it is.
    """
    related = {r[end] for r in result if r['type'] == 'relation' for end in ('from_id', 'to_id')}
    points = [r for r in result if r['type'] == 'keypointlabels']
    alone = [r['value']['keypointlabels'][0] for r in points if r['id'] not in related]
    for name in alone:
        if alone.count(name) > 1:
            raise ValueError(
                f'task {task.get("id")} has several {name!r}: relate the points of each person to '
                'a rectangle in Label Studio'
            )
    kept = [r for r in result if r['type'] != 'rectanglelabels' or r['id'] in related]
    return kept, {r['value']['keypointlabels'][0] for r in points}


def _picture_of_task(task: dict, folder: Path) -> Path:
    """The picture of a task. Label Studio gives its address, and puts eight digits before the name
    of an uploaded file."""
    for value in task['data'].values():
        if isinstance(value, str) and Path(value).suffix.lower() in PICTURES:
            name = re.split(r'[/\\=]', value)[-1]
            for each in (name, re.sub(r'^[0-9a-f]{8}-', '', name)):
                if (folder / each).is_file():
                    return folder / each
            raise ValueError(f'{name} of task {task.get("id")} is not in {folder}: name --images')
    raise ValueError(f'task {task.get("id")} has no picture in `data`')
