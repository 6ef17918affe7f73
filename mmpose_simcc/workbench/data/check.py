# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds what is wrong with annotations before a training, in seconds."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from mmengine.config import Config
from mmpose.datasets.datasets import (
    CocoWholeBodyDataset,
    CocoWholeBodyFaceDataset,
    CocoWholeBodyHandDataset,
)
from mmpose.registry import DATASETS

from ...config.checks import read_metainfo
from ...utils.configs import class_of, dicts, type_name
from ...utils.files import file_sha256
from ...utils.inference import pose_head_cfg
from .coco import annotations_of, datasets_of, picture_size, pictures_of, read_annotations

LEVELS = ERROR, WARNING, NOTE = 'error', 'warning', 'note'
SPLITS = ('train', 'val', 'test')
SIZES_READ = 100  # pictures whose size is compared with the file's
WHOLE_BODY = ('keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts', 'righthand_kpts')


class Finding(NamedTuple):
    """One thing that a check found.

    Attributes:
        level (str): 'error': the training fails, or its figures mean nothing; 'warning': worth a
            look; 'note': good to know.
        split (str): 'train', 'val' or 'test'.
        what (str): What was found, with an example.
        number (int): How many annotations or pictures it concerns.
    """

    level: str
    split: str
    what: str
    number: int


class _Findings(List[Finding]):
    """The findings in one split."""

    def __init__(self, split: str) -> None:
        super().__init__()
        self.split = split

    def add(self, level: str, what: str, number: int = 1) -> None:
        self.append(Finding(level, self.split, what, number))

    def add_of(self, level: str, what: str, names: Sequence) -> None:
        """Add a finding about the entries with these names, the first of which is the example.
        Without any there is none."""
        if len(names):
            self.add(level, what if names[0] is None else f'{what}, e.g. {names[0]}', len(names))

    def sieve(self, entries: list, faults: Dict[str, Callable[[Any], bool]]) -> list:
        """Add an error for each fault that entries have. An entry with a fault is not looked at
        for the faults that follow. Returns the entries without any."""
        for what, has_fault in faults.items():
            faulty = [entry for entry in entries if has_fault(entry)]
            names = [entry.get('id') if isinstance(entry, dict) else entry for entry in faulty]
            self.add_of(ERROR, what, names)
            if faulty:
                entries = [entry for entry in entries if not has_fault(entry)]
        return entries


def check_annotations(
    content: dict,
    split: str = 'train',
    metainfo: Optional[dict] = None,
    images: Optional[Path] = None,
    pixels_per_cell: Optional[Tuple[float, Sequence[int]]] = None,
    read_by_metrics: Sequence[str] = ('area',),
) -> List[Finding]:
    """Check annotations in COCO's keypoint format.

    Args:
        content (dict): What the JSON file holds.
        split (str): Named in the findings.
        metainfo (dict, optional): Parsed metainfo of the data set.
        images (Path, optional): Folder of the pictures, which are then looked for.
        pixels_per_cell (tuple, optional): Pixels of the network's input from one cell of its
            output to the next, and the input size (w, h), to say how large people are in cells.
        read_by_metrics (sequence[str]): What COCO's metric reads of an annotation, and
            ``'crowdIndex'`` of a picture; empty without such a metric.

    Returns:
        list[Finding]: What was found.

    Example:
        >>> annotation = dict(id=0, image_id=1, category_id=1, bbox=[0, 0, 9, 9],
        ...                   keypoints=[4, 5, 2], area=40, iscrowd=0)
        >>> image = dict(id=1, file_name='a.jpg', width=10, height=10)
        >>> content = dict(images=[image], annotations=[annotation] * 2,
        ...                categories=[dict(id=1, name='dot', keypoints=['dot'])])
        >>> check_annotations(content)[0].what
        'several annotations with the same `id`, which the metric takes for one, e.g. 0'
    """
    found = _Findings(split)
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content.get(key), list):
            found.add(ERROR, f'the file has no list of `{key}`')
    if found:
        return found
    pictures = _check_pictures(content['images'], images, found)
    categories = [c for c in content['categories'] if isinstance(c, dict)]
    annotations = _check_structure(
        content['annotations'], pictures, {category.get('id') for category in categories}, found
    )
    if annotations:
        _check_values(annotations, pictures, metainfo, found)
        _check_what_metrics_read(annotations, pictures, read_by_metrics, found)
        _note_sizes(annotations, pixels_per_cell, found)
    if metainfo:
        _check_names(categories, metainfo, found)
        if read_by_metrics and len(metainfo['sigmas']) == 0:
            found.add(ERROR, 'metainfo without `sigmas`, by which CocoMetric divides errors')
    return found


def _check_pictures(entries: list, folder: Optional[Path], found: _Findings) -> Dict[int, dict]:
    """The pictures by their ids, without those that have a fault."""
    needed = {'id', 'file_name', 'width', 'height'}
    entries = found.sieve(
        entries,
        {
            'pictures without `id`, `file_name`, `width` or `height`': lambda e: (
                not isinstance(e, dict) or not needed <= e.keys()
            ),
            '`id` of a picture that is not a whole number': lambda e: not _is_whole(e['id']),
            '`width` or `height` of a picture that is not a number': lambda e: (
                not _are_numbers([e['width'], e['height']], 2)
            ),
        },
    )
    ids = Counter(entry['id'] for entry in entries)
    repeated = [entry['id'] for entry in entries if ids[entry['id']] > 1]
    found.add_of(ERROR, 'several pictures with the same `id`', repeated)
    if folder is not None:
        there = [entry for entry in entries if (folder / entry['file_name']).is_file()]
        known = {entry['file_name'] for entry in there}
        missing = [entry['file_name'] for entry in entries if entry['file_name'] not in known]
        found.add_of(ERROR, f'pictures that are not in {folder}', missing)
        _check_picture_sizes(there, folder, found)
    return {entry['id']: entry for entry in entries}


def _check_picture_sizes(entries: list, folder: Path, found: _Findings) -> None:
    """Compare the size of some pictures with what the file says. They are drawn at random, since
    each has to be opened."""
    drawn = np.random.default_rng(0).permutation(len(entries))[:SIZES_READ]
    others = []
    for entry in (entries[index] for index in drawn):
        try:
            size = picture_size(folder / entry['file_name'])
        except OSError:
            found.add(ERROR, f'pictures that cannot be read, e.g. {entry["file_name"]}')
            return
        if size != (entry['width'], entry['height']):
            others.append(f'{entry["file_name"]}, which is {size[0]}x{size[1]}')
    what = f'pictures of another size than the file says, of {len(drawn)} opened'
    found.add_of(WARNING, what, others)


def _check_structure(entries: list, pictures: Dict, categories: Set, found: _Findings) -> list:
    """The annotations of keypoints that MMPose can read."""
    entries = found.sieve(
        entries, {'annotations that are not objects': lambda e: not isinstance(e, dict)}
    )
    # MMPose leaves out crowds and annotations of another kind
    entries = [e for e in entries if not e.get('iscrowd') and e.get('keypoints', 1)]
    if not entries:
        found.add(ERROR, 'the file has no annotations of keypoints')
    ids = Counter(e['id'] for e in entries if _is_whole(e.get('id')))
    repeated = [e['id'] for e in entries if _is_whole(e.get('id')) and ids[e['id']] > 1]
    what = 'several annotations with the same `id`, which the metric takes for one'
    found.add_of(ERROR, what, repeated)
    entries = found.sieve(
        entries,
        {
            **{
                f'annotations without `{key}`': lambda e, key=key: key not in e
                for key in ('id', 'image_id', 'category_id', 'bbox', 'keypoints')
            },
            '`id` that is not a whole number': lambda e: not _is_whole(e['id']),
            '`image_id` of no picture in the file': lambda e: e['image_id'] not in pictures,
            '`category_id` of no category in the file': lambda e: (
                e['category_id'] not in categories
            ),
            '`keypoints` that are not one list x1, y1, v1, x2, ... of numbers': lambda e: (
                not _are_numbers(e['keypoints']) or len(e['keypoints']) % 3
            ),
            '`bbox` that is not [x, y, width, height]': lambda e: not _are_numbers(e['bbox'], 4),
        },
    )
    lengths = Counter(len(entry['keypoints']) for entry in entries)
    usual = max(lengths, key=lengths.get, default=0)
    what = f'annotations of another number of keypoints than {usual // 3}'
    return found.sieve(entries, {what: lambda e: len(e['keypoints']) != usual})


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_numbers(values: Any, length: Optional[int] = None) -> bool:
    return (
        isinstance(values, list)
        and length in (None, len(values))
        and all(isinstance(value, (int, float)) for value in values)
    )


def _check_values(
    entries: List[dict], pictures: Dict, metainfo: Optional[dict], found: _Findings
) -> None:
    names = np.array([f'id {entry["id"]}' for entry in entries])
    points = np.array([entry['keypoints'] for entry in entries], float).reshape(len(entries), -1, 3)
    boxes = np.array([entry['bbox'] for entry in entries], float)
    sizes = [pictures[entry['image_id']] for entry in entries]
    size = np.array([(picture['width'], picture['height']) for picture in sizes], float)
    xy, labelled = points[..., :2], points[..., 2] > 0
    if metainfo and xy.shape[1] != metainfo['num_keypoints']:
        number = metainfo['num_keypoints']
        found.add(ERROR, f'the annotations have {xy.shape[1]} keypoints, the metainfo {number}')
    finite = np.isfinite(points).all((1, 2)) & np.isfinite(boxes).all(1)
    found.add_of(ERROR, 'coordinates that are NaN or infinite', names[~finite])
    with np.errstate(invalid='ignore'):
        largest = np.where(labelled[..., None], np.abs(xy), 0).max((1, 2))
    fractions = labelled.any(1) & finite & (largest <= 1.5) & (size.min(1) > 32)
    if fractions.mean() > 0.5:
        found.add_of(ERROR, 'keypoints between 0 and 1 where pixels are meant', names[fractions])
    other = ~np.isin(points[..., 2], (0, 1, 2)).all(1)
    what = 'visibility other than 0, 1 and 2, which weighs the loss'
    found.add_of(WARNING, what, names[other])

    x, y, w, h = boxes.T
    too_large = (x + w > size[:, 0] + 1) | (y + h > size[:, 1] + 1)
    corners = (w > x) & (h > y) & too_large & (w <= size[:, 0] + 1) & (h <= size[:, 1] + 1)
    if corners.mean() > 0.3:
        what = '`bbox` that look like x1, y1, x2, y2: COCO has x, y, width, height'
        found.add_of(ERROR, what, names[corners])
    found.add_of(ERROR, '`bbox` without width or height', names[finite & ((w <= 0) | (h <= 0))])
    leaves = (x < -1) | (y < -1) | too_large
    found.add_of(WARNING, '`bbox` that leave their picture', names[leaves & ~corners])
    beside = (x >= size[:, 0]) | (y >= size[:, 1]) | (x + w <= 0) | (y + h <= 0)
    level = ERROR if beside.mean() > 0.5 else WARNING
    found.add_of(level, '`bbox` beside their picture, which MMPose leaves out', names[beside])

    low, side = boxes[:, None, :2], boxes[:, None, 2:]
    outside = labelled & ((xy < low - 0.1 * side) | (xy > low + 1.1 * side)).any(-1)
    found.add_of(WARNING, 'people with points outside of their box', names[outside.any(1)])
    beyond = labelled & ((xy < -1) | (xy > size[:, None] + 1)).any(-1)
    what = 'people with labelled points outside of the picture'
    found.add_of(WARNING, what, names[beyond.any(1)])
    level = NOTE if labelled.any() else ERROR
    what = 'annotations without a labelled keypoint (v > 0)'
    found.add_of(level, what, names[~labelled.any(1)])


def _check_what_metrics_read(
    entries: List[dict], pictures: Dict, keys: Sequence[str], found: _Findings
) -> None:
    """Check that there is what COCO's metric reads of all annotations at once, after it has seen
    the whole test set."""
    for key in keys:
        kind, all_ = 'annotations', entries
        if key == 'crowdIndex':  # for CrowdPose's AP of easy, medium and hard pictures
            kind, all_ = 'pictures', pictures.values()
        lacking = [f'id {entry["id"]}' for entry in all_ if key not in entry]
        found.add_of(ERROR, f'{kind} without `{key}`, which CocoMetric needs', lacking)
    if 'area' in keys:
        extents = [0.02 * entry['bbox'][2] * entry['bbox'][3] for entry in entries]
        tiny = [e for e, extent in zip(entries, extents) if e.get('area', extent) < extent]
        what = '`area` far below that of the box: AP would count any error'
        found.add_of(ERROR, what, [f'id {entry["id"]}' for entry in tiny])


def _note_sizes(
    entries: List[dict], pixels_per_cell: Optional[Tuple[float, Sequence[int]]], found: _Findings
) -> None:
    """Say how large people are, and how near their keypoints are to each other."""
    boxes = np.array([entry['bbox'] for entry in entries], float)
    long_side = boxes[:, 2:].max(1)
    low, median, high = np.percentile(long_side, [10, 50, 90])
    what = (
        f'people, the longer side of the box {median:.0f} pixels (a tenth below {low:.0f}, '
        f'above {high:.0f})'
    )
    if pixels_per_cell:
        pitch, input_size = pixels_per_cell
        # MMPose enlarges a box by a quarter and brings it to the shape of the input
        cells_per_pixel = 1 / ((boxes[:, 2:] / input_size).max(1) * 1.25 * pitch)
        what += f', {np.median(long_side * cells_per_pixel):.0f} cells of the network'
        near = []
        for index in np.random.default_rng(0).permutation(len(entries))[:2000]:
            points = np.array(entries[index]['keypoints'], float).reshape(-1, 3)
            points = points[points[:, 2] > 0, :2] * cells_per_pixel[index]
            distance = np.linalg.norm(points[:, None] - points, axis=-1)
            np.fill_diagonal(distance, np.inf)
            near += distance.min(1).tolist() if len(points) > 1 else []
        share = np.mean(np.array(near) < 1) if near else 0
        if share > 0.05:
            found.add(
                NOTE,
                f'{share:.0%} of the keypoints lie less than a cell from another: a larger input, '
                'or SimCC, tells them apart',
            )
    found.add(NOTE, what, len(entries))


def _check_names(categories: List[dict], metainfo: dict, found: _Findings) -> None:
    """Compare the names in the file with the metainfo's, and look for left and right ones that
    the metainfo does not pair."""
    wanted = [metainfo['keypoint_id2name'][i] for i in range(metainfo['num_keypoints'])]
    for category in categories:
        names = category.get('keypoints')
        if not names or len(names) != len(wanted) or names == wanted:
            continue
        if sorted(names) == sorted(wanted):
            index = next(i for i, pair in enumerate(zip(names, wanted)) if pair[0] != pair[1])
            found.add(
                ERROR,
                f'the file has the keypoints in another order than the metainfo: keypoint {index} '
                f'is {names[index]!r}, the metainfo says {wanted[index]!r}',
            )
        else:
            found.add(
                WARNING,
                f'the keypoints have other names in the file, {names[:3]}..., than in the '
                f'metainfo, {wanted[:3]}...',
            )
    paired = {index for pair in metainfo['flip_pairs'] for index in pair}
    alone = [
        name
        for index, name in enumerate(wanted)
        if index not in paired and name.lower().startswith(('left', 'right', 'l_', 'r_'))
    ]
    what = (
        'left or right keypoints without `swap` in the metainfo: mirrored pictures teach the '
        'network to confuse both sides'
    )
    found.add_of(ERROR, what, alone)
    for a, b in metainfo['flip_pairs']:
        first, second = wanted[a].lower(), wanted[b].lower()
        mirrored = second in (first.replace('left', 'right'), first.replace('right', 'left'))
        if ('left' in first or 'right' in first) and not mirrored:
            found.add(WARNING, f'the metainfo swaps {wanted[a]!r} and {wanted[b]!r}')


def _pixels_per_cell(cfg: Config) -> Optional[Tuple[float, Sequence[int]]]:
    codec = pose_head_cfg(cfg).get('decoder') or {}
    if 'input_size' not in codec:
        return None
    if 'heatmap_size' in codec:
        return codec['input_size'][0] / codec['heatmap_size'][0], codec['input_size']
    return 1 / codec.get('simcc_split_ratio', 2.0), codec['input_size']


def _read_by_metrics(evaluator: Any) -> List[str]:
    """``read_by_metrics`` of :func:`check_annotations` for a config's evaluator."""
    keys: Set[str] = set()
    for metric in dicts(evaluator):
        if 'Coco' in type_name(metric):
            if metric.get('use_area', True):
                keys.add('area')
            if metric.get('iou_type') == 'keypoints_crowd':
                keys |= {'num_keypoints', 'crowdIndex'}
    return sorted(keys)


def _read(dataset: dict, kind: type) -> Optional[dict]:
    """The annotations of a data set; None if it does not read a person's ``keypoints`` in COCO's
    format. Those of whole bodies lie in five lists, which become one.

    Raises:
        ValueError: The file is missing or is not JSON.
    """
    path = annotations_of(dataset)
    try:
        content = read_annotations(path)
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}') from None
    if not isinstance(content, dict) or 'annotations' not in content:
        return None
    if issubclass(kind, (CocoWholeBodyFaceDataset, CocoWholeBodyHandDataset)):
        return None
    if issubclass(kind, CocoWholeBodyDataset) and isinstance(content['annotations'], list):
        for entry in content['annotations']:
            entry['keypoints'] = [number for part in WHOLE_BODY for number in entry.get(part, ())]
    return content


def check_data(cfg: Config) -> List[Finding]:
    """Check the annotations that a config trains, validates and tests on.

    Data sets that are not in COCO's format (MPII's, for example) are named and left alone.

    Args:
        cfg (Config): A top-down config, see :func:`~mmpose_simcc.utils.inference.load_config`.

    Returns:
        list[Finding]: Errors first. Without an error figures will mean what they say, as far as
        annotations decide.

    Raises:
        ValueError: An annotation file is missing or is not JSON, or metainfo cannot be read.
    """
    findings: List[Finding] = []
    pictures: Dict[str, Set[Path]] = {split: set() for split in SPLITS}
    checked = []
    parts = [(split, dataset) for split in SPLITS for dataset in datasets_of(cfg, split)]
    for split, dataset in parts:
        read_by_metrics = _read_by_metrics(cfg.get(f'{split}_evaluator'))
        if (dataset, read_by_metrics) in checked:  # the test's are often those of the validation
            continue
        checked.append((dataset, read_by_metrics))
        kind = class_of(dataset, DATASETS)
        if kind is None:
            raise ValueError(f'{split}: there is no data set {dataset["type"]}')
        try:
            content = _read(dataset, kind)
        except ValueError as error:
            raise ValueError(f'{split}: {error}') from None
        if content is None:
            what = f"{annotations_of(dataset)} is not in COCO's format: not checked"
            findings.append(Finding(NOTE, split, what, 1))
            continue
        place = f'{type_name(dataset)} in `{split}_dataloader`'
        metainfo = read_metainfo(dict(dataset.get('metainfo') or kind.METAINFO), place)
        folder = pictures_of(dataset)
        findings += check_annotations(
            content, split, metainfo, folder, _pixels_per_cell(cfg), read_by_metrics
        )
        images = content['images'] if isinstance(content.get('images'), list) else ()
        names = [i['file_name'] for i in images if isinstance(i, dict) and 'file_name' in i]
        pictures[split] |= {folder / name for name in names}
    findings += _find_leaks(pictures['train'], pictures['val'] | pictures['test'])
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _find_leaks(train: Set[Path], test: Set[Path]) -> List[Finding]:
    """Pictures that are trained and tested on: the same file, or the same content."""

    def by_size(paths: Set[Path]) -> Dict[int, List[Path]]:
        sizes = defaultdict(list)
        for path in sorted(paths):
            if path.is_file():
                sizes[path.stat().st_size].append(path)
        return sizes

    trained, leaks = by_size(train), []
    for size, paths in by_size(test).items():
        if size in trained:
            contents = {file_sha256(path) for path in trained[size]}
            leaks += [path.name for path in paths if file_sha256(path) in contents]
    found = _Findings('test')
    what = 'pictures of the test set that are trained on as well'
    found.add_of(ERROR, what, leaks)
    return found
