# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""One forward pass over a data set, kept on disk as windows.

People go in shards of fixed size, each a file that appears when it is
complete: an interrupted pass continues at the first shard that is missing,
and several processes share the shards. What a shard holds does not depend on
who made it.
"""

import contextlib
import copy
import itertools
import json
import os
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Set, Union

import ijson
import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.dist import barrier, broadcast_object_list, get_dist_info, is_main_process
from mmengine.registry import init_default_scope
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import DATASETS
from mmpose.structures import PoseDataSample
from torch.utils.data import DataLoader

from ...utils.checks import invalid
from ...utils.console import Progress, Task, quiet
from ...utils.files import file_sha256, save_arrays, whole_file
from ...utils.inference import build_model, load_weights, network_outputs
from ...utils.processes import only_here
from ..identity import Content, digest, versions
from .records import Arrays, reference_keypoints

Rows = Union[slice, np.ndarray]  # some of the people

SHARD_PEOPLE = 256
PART_IMAGES = 2000  # whose annotations MMPose reads at once
IMAGE_ID = dict(images='id', annotations='image_id')  # how lists in COCO's format name an image
WINDOWS = ('locs', 'peaks', 'raw', 'smoothed', 'x', 'y')


def _items(path: Path, where: str) -> Iterator[Any]:
    """What is at one place of a JSON file, item by item."""
    with open(path, 'rb') as file:
        try:
            yield from ijson.items(file, where, use_float=True)
        except ijson.JSONError as error:
            raise ValueError(f'{path} is not in COCO format: {error}') from error


def _entries(path: Path, name: str) -> Iterator[dict]:
    """The entries of a list in COCO's format one by one, without the outlines of people, which are
    most of its annotations and of no use to keypoints.

    Args:
        path (Path): The file.
        name (str): 'images' or 'annotations'.

    Raises:
        ValueError: The file is damaged.
    """
    for entry in _items(path, f'{name}.item'):
        entry.pop('segmentation', None)
        yield entry


def _about(path: Path) -> dict:
    """What else is in a file in COCO's format.

    Raises:
        ValueError: The file is of another format.
    """
    names = 'info', 'licenses', 'categories'
    # of each the first: no more of the file is read
    content = {name: value for name in names for value in itertools.islice(_items(path, name), 1)}
    if 'categories' not in content:
        raise ValueError(f'{path} is not in COCO format: it has no `categories`')
    return content


def read_annotations(path: str, images: Optional[Set[int]] = None) -> dict:
    """Read annotations in COCO's format without the outlines of people.

    Args:
        path (str): The file.
        images (set[int], optional): Ids of the images that are wanted; all by
            default. Others are dropped while the file is read.
    """
    content = _about(path)
    for name, image in IMAGE_ID.items():
        content[name] = [
            entry for entry in _entries(path, name) if images is None or entry[image] in images
        ]
    return content


def annotation_parts(path: Path, work_dir: Path) -> List[Path]:
    """Annotations in COCO's format as the first process writes them once, in parts and without the
    outlines of people: MMPose's data sets hold every annotation three times while they read them.

    Args:
        path (Path): The annotations.
        work_dir (Path): The parts go there; every process has to see it.

    Returns:
        list[Path]: The parts, each of PART_IMAGES, in the order of the images.
    """
    folder = (work_dir / f'annotations-{file_sha256(path)[:12]}').resolve()
    if is_main_process() and not (folder / 'annotations-0000.json').is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write_parts(path, folder)
    barrier()
    return sorted(folder.glob('annotations-*.json'))


def _write_parts(path: Path, folder: Path) -> None:
    """The first part, which says that all are there, is written last."""
    part_of = {}
    for entry in _entries(path, 'images'):
        part_of.setdefault(entry['id'], len(part_of) // PART_IMAGES)
    about = _about(path)
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(tempfile.TemporaryFile('w+'))
            for _ in range(max(part_of.values(), default=0) + 1)
        ]
        for name, image in IMAGE_ID.items():
            for entry in _entries(path, name):
                if entry[image] in part_of:
                    files[part_of[entry[image]]].write(json.dumps([name, entry]) + '\n')
        for number in reversed(range(len(files))):
            files[number].seek(0)
            content = dict(about, **{name: [] for name in IMAGE_ID})
            for name, entry in map(json.loads, files[number]):
                content[name].append(entry)
            with whole_file(folder / f'annotations-{number:04d}.json') as unfinished:
                unfinished.write_text(json.dumps(content))


def _annotations(cfg: Config, split: str) -> Path:
    dataset = cfg[f'{split}_dataloader'].dataset
    return Path(dataset.get('data_root') or '', dataset.ann_file)


def dataset_config(cfg: Config, split: str) -> Config:
    """A split of a config's data as it is tested: annotated boxes, the test
    pipeline, no augmentation.

    Args:
        cfg (Config): Config of a top-down model.
        split (str): 'train', 'val' or 'test'.

    Returns:
        ConfigDict: Config of the data set.

    Raises:
        ValueError: The split is not one data set with an annotation file, or
            the file is not there.
    """
    dataset = copy.deepcopy(cfg[f'{split}_dataloader'].dataset)
    if not dataset.get('ann_file'):
        raise invalid(
            f'{split}_dataloader.dataset', dataset.get('type'), 'one data set with an `ann_file`'
        )
    tested = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if not tested:
        raise ValueError('the config has neither `test_dataloader` nor `val_dataloader`')
    test_pipeline = tested.dataset.pipeline
    dataset.pipeline = copy.deepcopy(test_pipeline)
    dataset.test_mode = True
    dataset.pop('bbox_file', None)
    for name in (dataset.ann_file, *dataset.get('data_prefix', {}).values()):
        path = Path(dataset.get('data_root') or '', name)
        if not path.exists():
            raise ValueError(f'the {split} data are not here: there is no {path}')
    return dataset


def build_dataset(cfg: Config, split: str, work_dir: Optional[Path] = None):
    """The data set of :func:`dataset_config`.

    Args:
        cfg (Config): Config of a top-down model.
        split (str): 'train', 'val' or 'test'.
        work_dir (Path, optional): Where it reads annotations in parts from, see
            :func:`annotation_parts`, if MMPose's code for COCO's format reads them. What MMPose
            makes of them waits on disk then.
    """
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    dataset = dataset_config(cfg, split)
    with quiet():
        if work_dir is not None and _reads_by_image(dataset):
            built = _build_in_parts(dataset, annotation_parts(_annotations(cfg, split), work_dir))
        else:
            built = DATASETS.build(dataset)
    built.__dict__.pop('coco', None)  # what it was read from, which MMPose keeps
    return built


def _reads_by_image(dataset: dict) -> bool:
    """Whether parts of the annotations give parts of the data set."""
    kind = dataset['type']
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    methods = 'load_data_list', '_load_annotations'
    return not dataset.get('indices') and all(
        getattr(kind, name, None) is getattr(BaseCocoStyleDataset, name) for name in methods
    )


def _build_in_parts(dataset: dict, parts: List[Path]):
    file, sizes = tempfile.TemporaryFile(), []  # noqa: SIM115 (it lives as long as the data set)
    for part in parts:
        built = DATASETS.build(dict(dataset, ann_file=str(part), serialize_data=False))
        # as MMEngine serialises it
        sizes += [file.write(pickle.dumps(info, protocol=4)) for info in built.data_list]
        built.data_list.clear()
    built.serialize_data, built.data_bytes = True, _OnDisk(file)
    built.data_address = np.cumsum(sizes)
    return built


class _OnDisk:
    """Bytes that stay in a file until they are asked for."""

    def __init__(self, file: BinaryIO) -> None:
        file.flush()
        self._file = file

    def __getitem__(self, part: slice) -> bytes:
        return os.pread(self._file.fileno(), part.stop - part.start, part.start)

    def __reduce__(self) -> tuple:
        """For workers that are not forks: all of them."""
        return bytes, (self[0 : os.fstat(self._file.fileno()).st_size],)


def choose_subset(img_ids: np.ndarray, number: Optional[int]) -> np.ndarray:
    """People of whole images, drawn at random, always the same.

    Args:
        img_ids (np.ndarray): The image of each person, shape (N,).
        number (int, optional): About how many people: images are added until
            there are as many. All by default.

    Returns:
        np.ndarray: Indices in ascending order.
    """
    if number is None or number >= len(img_ids):
        return np.arange(len(img_ids))
    images, image_of, counts = np.unique(img_ids, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(images))
    enough = np.searchsorted(counts[order].cumsum(), number) + 1
    return np.flatnonzero(np.isin(image_of, order[:enough]))


def _people_arrays(samples: List[PoseDataSample]) -> Arrays:
    """What of the annotations scores a prediction, as arrays."""
    people = []
    for sample in samples:
        gt = sample.gt_instances
        annotation = sample.metainfo.get('raw_ann_info') or {}
        x1, y1, x2, y2 = gt.bboxes[0]
        # CocoMetric's stand-in where segments give no area
        area = annotation.get('area', 0.53 * (x2 - x1) * (y2 - y1))
        person = dict(
            id=sample.id,
            img_id=sample.img_id,
            category_id=np.ravel(sample.metainfo.get('category_id', 1))[0],
            area=np.float64(area),
            **{
                name: np.asarray(sample.metainfo[name], np.float32)
                for name in ('input_size', 'input_center', 'input_scale')
            },
        )
        for name, value in gt.items():
            if name != 'keypoints_cam':
                person[f'gt_{name}'] = np.asarray(value)
        people.append(person)
    return {name: np.stack([p[name] for p in people]) for name in people[0]}


@dataclass
class People:
    """The captured people. What is small is here, windows and predictions are on disk.

    Attributes:
        shards (list[Path]): The files, with what :mod:`.records` keeps of network outputs and all
            that is in ``arrays``.
        arrays (dict): Of all people in order: ``id``, ``img_id``, ``area``
            (N,), ``scores`` (N, K) and annotations ``gt_NAME`` in image pixels.
        metainfo (dict): Of the data set.
        ann_file (str): Its annotations.
    """

    shards: List[Path]
    arrays: Arrays
    metainfo: Dict[str, Any]
    ann_file: str

    def __len__(self) -> int:
        return len(self.arrays['id'])

    @property
    def visible(self) -> np.ndarray:
        """Which keypoints are annotated, shape (N, K)."""
        return self.visible_of(slice(None))

    def visible_of(self, people: Rows) -> np.ndarray:
        """:attr:`visible` of some people, shape (P, K)."""
        visible = self.arrays['gt_keypoints_visible'][people]
        return visible.reshape(len(visible), self.num_keypoints, -1)[..., 0] > 0

    @property
    def num_keypoints(self) -> int:
        return self.arrays['scores'].shape[1]

    def slices(self) -> List[slice]:
        """Which people each shard holds."""
        return [
            slice(start, min(start + SHARD_PEOPLE, len(self)))
            for start in range(0, len(self), SHARD_PEOPLE)
        ]

    def to_image(self, keypoints: np.ndarray, people: Rows) -> np.ndarray:
        """Input-image pixels (P, ..., K, 2) to image pixels."""
        arrays = self.arrays
        shape = (-1, *[1] * (keypoints.ndim - 2), 2)
        scale = arrays['input_scale'][people]
        factor = (scale / arrays['input_size'][people]).reshape(shape)
        corner = arrays['input_center'][people] - 0.5 * scale
        return keypoints * factor + corner.reshape(shape)


def load_people(shards: List[Path], metainfo: Dict[str, Any], ann_file: str) -> People:
    """Read what is small of captured people.

    Args:
        shards (list[Path]): The files, in order.
        metainfo (dict): Of the data set.
        ann_file (str): Its annotations.
    """
    with np.load(shards[0]) as shard:
        small = [name for name in shard.files if name not in WINDOWS and name[:3] != 'by_']
    arrays = {}
    for name in small:  # one by one: else all parts would be beside all that is joined
        parts = []
        for path in shards:
            with np.load(path) as shard:
                parts.append(shard[name])
        arrays[name] = np.concatenate(parts)
    return People(shards, arrays, metainfo, ann_file)


def _identity(
    cfg: Config,
    checkpoint: str,
    split: str,
    indices: np.ndarray,
    batch_size: int,
    records,
    content: Content,
) -> str:
    """Name of a pass: equal when its shards would be."""
    return digest(
        [
            versions(),
            file_sha256(checkpoint),
            content.of(cfg.to_dict()['model']),
            content.of(dataset_config(cfg, split)),
            indices,
            batch_size,
            SHARD_PEOPLE,
            records.identity,
            records.half_width,
        ]
    )


def capture(
    cfg: Config,
    checkpoint: str,
    records,
    split: str,
    work_dir: Path,
    subset: Optional[int] = None,
    hash_pictures: bool = False,
) -> People:
    """Run a model over data and keep the windows around its maxima.

    The flip test and all else follow the config, as in its test.

    Args:
        cfg (Config): Config of a top-down model.
        checkpoint (str): Its weights.
        records (HeatmapRecords | SimCCRecords): What is kept.
        split (str): 'train', 'val' or 'test'.
        work_dir (Path): Shards go into a folder there, which every process
            has to see.
        subset (int, optional): About how many people, see
            :func:`choose_subset`.
        hash_pictures (bool): Whether pictures count by their content, for
            which all are read; else by size and modification time.

    Returns:
        People: In every process, all of them.

    Raises:
        ValueError: Data or checkpoint do not serve.
    """
    model = build_model(cfg)
    load_weights(model, checkpoint)
    dataset = build_dataset(cfg, split, work_dir)
    indices = choose_subset(
        np.array([dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]), subset
    )
    if len(indices) == 0:
        raise ValueError(f'there is nobody in {_annotations(cfg, split)}')
    loader_cfg = cfg.get('test_dataloader') or cfg.val_dataloader
    batch_size = loader_cfg.batch_size
    starts = range(0, len(indices), SHARD_PEOPLE)
    rank, world_size = get_dist_info()
    with contextlib.ExitStack() as stack:
        name = [None]
        if rank == 0:  # for all: it looks at every picture
            content = Content(hash_pictures)
            name = [_identity(cfg, checkpoint, split, indices, batch_size, records, content)]
            work_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_here(work_dir / f'{name[0]}.lock', 'forward pass'))
        broadcast_object_list(name)
        folder = work_dir / name[0]
        folder.mkdir(parents=True, exist_ok=True)
        shards = [folder / f'{start:08d}.npz' for start in starts]
        missing = [
            (path, indices[start : start + SHARD_PEOPLE])
            for path, start in zip(shards, starts)
            if not path.is_file()
        ]
        missing = missing[rank::world_size]
        if missing:
            _run(
                model.to(get_device()),
                dataset,
                missing,
                batch_size,
                loader_cfg.get('num_workers', 0),
                records,
            )
        barrier()
    return load_people(shards, dict(dataset.metainfo), str(_annotations(cfg, split)))


def _run(model, dataset, shards: List[tuple], batch_size: int, num_workers: int, records) -> None:
    """Fill shards, each a path and the indices of its people."""
    batches = [
        indices[start : start + batch_size].tolist()
        for _, indices in shards
        for start in range(0, len(indices), batch_size)
    ]
    loader = DataLoader(
        dataset, batch_sampler=batches, num_workers=num_workers, collate_fn=pseudo_collate
    )
    outputs = network_outputs(model, loader)
    with Progress() as progress:
        task = progress.add('forward pass', total=sum(map(len, batches)))
        for path, indices in shards:
            parts = list(_record(outputs, len(indices), records, task))
            save_arrays(
                path, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            )


def _record(outputs: Iterator, number: int, records, task: Task) -> Iterator[Arrays]:
    """Records of the next people, batch by batch."""
    while number > 0:
        tensors, samples = next(outputs)
        yield {
            **records.record(*tensors),
            **reference_keypoints(records, tensors),
            **_people_arrays(samples),
        }
        number -= len(samples)
        task.advance(len(samples))
