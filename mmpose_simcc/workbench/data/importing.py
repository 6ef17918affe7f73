# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Turns annotations of other tools into a folder that MMPose trains on."""

import json
import re
import shutil
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from ...utils.checks import check_number
from .coco import picture_size
from .sources import read_labels

# COCO's `area` is that of a person's outline, on average this fraction of the box. Ultralytics
# scores YOLO-pose by the same number.
AREA_OF_BOX = 0.53
# By this fraction of its width and height the extent of the points is enlarged on each side.
BOX_MARGIN = 0.1
# COCO's sigmas are 0.062 to 0.089 for wrists, knees and ankles.
DEFAULT_SIGMA = 0.05

METAINFO = """\
# What the keypoints are: {source}
# `sigmas`: how far annotators are apart on a keypoint, divided by the root of a person's area. AP
# depends on them. {sigma} for all is a guess: docs/own_data.md says how to measure them.
names = {names}
links = {links}
swaps = {swaps}

dataset_info = dict(
    dataset_name={name!r},
    paper_info=dict(),
    keypoint_info={{
        i: dict(name=name, id=i, color=[255, 128, 0], type='', swap=swaps.get(name, ''))
        for i, name in enumerate(names)
    }},
    skeleton_info={{i: dict(link=link, id=i, color=[0, 128, 255]) for i, link in enumerate(links)}},
    joint_weights=[1.0] * len(names),
    sigmas=[{sigma}] * len(names),
)
"""

HEATMAP_CONFIG = """\
# Unbiased heatmaps with DARK on ResNet-50; simcc.py beside it is SimCC on the same data.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='DARKCodec', input_size={input_size}))

data_root = {root!r}
data = dict(
    data_root=data_root, metainfo=dict(from_file=data_root + 'metainfo.py'),
    data_prefix=dict(img='images/'),
)
model = dict(head=dict(out_channels={num_keypoints}))
train_dataloader = dict(batch_size=32, dataset=dict(ann_file='annotations/train.json', **data))
val_dataloader = dict(dataset=dict(ann_file='annotations/val.json', bbox_file='', **data))
test_dataloader = val_dataloader
# PCK first: AP depends on sigmas, which are not known
val_evaluator = [
    dict(type='PCKAccuracy', thr=0.1),
    dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json'),
]
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=32)
"""

SIMCC_CONFIG = """\
_base_ = ['heatmap.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(type='SimCCCodec', simcc_split_ratio=2),
    head=dict(type='SimCCClassifierHead', channels_per_keypoint=28),
)
"""


def import_data(source, out, images=None, val: float = 0.2, seed: int = 0) -> dict:
    """Write annotations of another tool in COCO's layout, with configs that train on them.

    `sleap-io`_ reads SLEAP, DeepLabCut (a project's folder or a CSV file), Label Studio (JSON),
    NWB, COCO and others; YOLO-pose (the folder with ``data.yaml``, or such a file) is read here
    as Ultralytics reads it. ``out`` then holds ``annotations/train.json`` and ``val.json``,
    ``images/``, ``metainfo.py`` (names, mirrored pairs, skeleton, sigmas) and the configs
    ``heatmap.py`` and ``simcc.py``.

    Boxes are those of the source (YOLO-pose, COCO). Otherwise a box is the extent of the points,
    enlarged by a tenth on each side. ``area`` is 0.53 of the box or extent, as it is on average
    for COCO's outlines of people. A training and a validation split of the source stay. Otherwise
    pictures are drawn at random for validation; of several videos whole ones, since the frames of
    one resemble each other.

    Args:
        source (str | Path): File or folder of the annotations.
        out (str | Path): Folder to write, new or empty.
        images (str | Path, optional): Folder of the pictures of a COCO or Label Studio file.
            That of the file by default.
        val (float): The fraction of the pictures to validate on, if the source has no split, in
            (0, 1). Defaults to 0.2.
        seed (int): Of the random split. Defaults to 0.

    Returns:
        dict: ``pictures`` and ``people``, the numbers of both by split; ``keypoints``, their names;
        ``pairs`` of names that a mirrored picture swaps; ``input_size`` (w, h) of the configs.

    Raises:
        ImportError: sleap-io is not installed.
        FileExistsError: ``out`` holds something.
        ValueError: The source cannot be read, or has no annotated pictures.

    .. _sleap-io: https://io.sleap.ai
    """
    source, out = Path(source), Path(out)
    check_number('val', val, above=0, below=1)
    if not source.exists():
        raise ValueError(f'there is no {source}')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f'{out} is not empty: name a new folder')
    splits = _split(read_labels(source, images), val, seed)
    skeletons = {id(s): s for labels in splits.values() for s in labels.skeletons}
    names = {tuple(s.node_names) for s in skeletons.values()}
    if len(names) != 1:
        raise ValueError(
            f'{source} has skeletons of {sorted(map(len, names))} keypoints: MMPose trains on one'
        )
    names = names.pop()
    skeleton = next(iter(skeletons.values()))
    pairs = _mirrored_pairs(skeleton, names)

    (out / 'annotations').mkdir(parents=True)
    (out / 'images').mkdir()
    report = dict(pictures={}, people={}, keypoints=list(names), pairs=pairs)
    sizes = []
    taken = set()
    for split, labels in splits.items():
        content = _write_split(out, split, labels, taken)
        report['pictures'][split] = len(content['images'])
        report['people'][split] = len(content['annotations'])
        sizes += [annotation['bbox'][2:] for annotation in content['annotations']]
    report['input_size'] = _input_size(np.array(sizes))
    root = f'{out.as_posix()}/'
    swaps = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    links = [tuple(edge) for edge in skeleton.edge_names]
    metainfo = METAINFO.format(
        source=source.name, name=out.name, names=list(names), links=links, swaps=swaps,
        sigma=DEFAULT_SIGMA,
    )  # fmt: skip
    config = HEATMAP_CONFIG.format(
        root=root, num_keypoints=len(names), input_size=report['input_size']
    )
    (out / 'metainfo.py').write_text(metainfo, encoding='utf-8')
    (out / 'heatmap.py').write_text(config, encoding='utf-8')
    (out / 'simcc.py').write_text(SIMCC_CONFIG, encoding='utf-8')
    return report


def _split(splits: Dict[str, object], val: float, seed: int) -> Dict[str, object]:
    """The labels to train and to validate on."""
    if 'train' in splits:
        held_out = splits.get('val') or splits.get('test')
        if held_out:
            return dict(train=splits['train'], val=held_out)
    labels = next(iter(splits.values()))
    if len(labels) < 2:
        raise ValueError('one annotated picture cannot be split into training and validation')
    rng = np.random.default_rng(seed)
    # DeepLabCut has a folder of pictures for each video
    videos = [str((_picture_file(f) or Path(f.video.filename, 'x')).parent) for f in labels]
    groups = np.array(videos if len(set(videos)) > 1 else [str(i) for i in range(len(labels))])
    order = rng.permutation(list(dict.fromkeys(groups.tolist())))
    wanted, chosen = val * len(labels), []
    for group in order[:-1]:  # one is left to train on
        if sum(np.isin(groups, chosen)) >= wanted:
            break
        chosen.append(group)
    held_out = np.isin(groups, chosen)
    return dict(
        train=labels.extract(np.flatnonzero(~held_out).tolist()),
        val=labels.extract(np.flatnonzero(held_out).tolist()),
    )


def _mirrored_pairs(skeleton, names: Sequence[str]) -> List[Tuple[str, str]]:
    """Pairs of keypoints that a mirrored picture swaps: those of the source, or by their names."""
    import sleap_io

    if skeleton.symmetries:
        return [tuple(sorted(node.name for node in pair.nodes)) for pair in skeleton.symmetries]
    return [(names[a], names[b]) for a, b in sleap_io.infer_symmetry_pairs_by_name(list(names))]


def _write_split(out: Path, split: str, labels, taken: set) -> dict:
    """Write the pictures and annotations of a split. Returns what the annotation file holds."""
    import sleap_io

    files = []
    for index, frame in enumerate(labels):
        original = _picture_file(frame)
        stem = re.sub(r'[^\w.-]+', '_', original.stem if original else f'frame_{frame.frame_idx}')
        name = stem + (original.suffix.lower() if original else '.png')
        if name in taken:
            name = f'{split}_{index:06d}_{name}'
        taken.add(name)
        files.append(name)
        target = out / 'images' / name
        if original:
            shutil.copyfile(original, target)
        else:
            picture = np.squeeze(frame.image)
            colour = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            if not cv2.imwrite(str(target), colour):
                raise OSError(f'{target} cannot be written')
    path = out / 'annotations' / f'{split}.json'
    sleap_io.save_coco(labels, str(path), image_filenames=files)
    content = json.loads(path.read_text(encoding='utf-8'))
    sizes = {}
    for image in content['images']:  # sleap-io writes that of a video's first picture for all
        size = picture_size(out / 'images' / image['file_name'])
        sizes[image['id']] = image['width'], image['height'] = size
    # first come the people of all frames, then masks and boxes without keypoints
    boxes = [box for frame in labels for box in _boxes(frame)]
    people = list(zip(content['annotations'], boxes))
    content['annotations'] = [person for person, _ in people if person['num_keypoints']]
    for annotation, box in people:
        margin = 0 if box else BOX_MARGIN
        x, y, w, h = box or annotation['bbox']
        width, height = sizes[annotation['image_id']]
        left, top = max(x - margin * w, 0), max(y - margin * h, 0)
        right, bottom = min(x + (1 + margin) * w, width), min(y + (1 + margin) * h, height)
        annotation['bbox'] = [left, top, right - left, bottom - top]
        annotation['area'] = AREA_OF_BOX * w * h
    path.write_text(json.dumps(content), encoding='utf-8')
    return content


def _boxes(frame) -> list:
    """The annotated box (x, y, w, h) of each person in a frame, or None."""
    boxes = {id(box.instance): box.xywh for box in frame.bboxes if box.instance is not None}
    return [boxes.get(id(person)) for person in frame.instances]


def _picture_file(frame) -> Optional[Path]:
    """The file of a frame's picture; None if the frame is one of a video."""
    files = frame.video.filename
    file = files[frame.frame_idx] if isinstance(files, (list, tuple)) else files
    path = Path(file)
    return path if path.suffix.lower() in ('.png', '.jpg', '.jpeg', '.bmp') else None


def _input_size(sizes: np.ndarray) -> Tuple[int, int]:
    """An input size (w, h) of about the shape of the boxes (N, 2), halved if they are small."""
    ratio = float(np.median(sizes[:, 0] / np.maximum(sizes[:, 1], 1e-6)))
    width, height = (192, 256) if ratio < 0.8 else (256, 192) if ratio > 1.25 else (256, 256)
    # MMPose enlarges a box by a quarter
    small = 1.25 * float(np.median(sizes.max(1))) < 160
    return (width // 2, height // 2) if small else (width, height)
