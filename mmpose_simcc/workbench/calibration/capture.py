# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""One forward pass over a data set, kept on disk as windows.

People go in shards of fixed size, each a file that appears when it is
complete: an interrupted pass continues at the first shard that is missing,
and several processes share the shards. What a shard holds does not depend on
who made it.
"""

import contextlib
import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Union

import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.dist import (
    all_gather_object,
    barrier,
    broadcast_object_list,
    get_dist_info,
    is_main_process,
)
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS
from mmpose.structures import PoseDataSample
from torch.utils.data import DataLoader

from ...utils.checks import invalid
from ...utils.console import Progress, Task, quiet, track
from ...utils.files import file_sha256, save_arrays, whole_file
from ...utils.inference import build_model, load_weights, network_outputs
from ...utils.processes import only_here
from ..identity import Content, digest, versions
from .records import Arrays, reference_keypoints

Rows = Union[slice, np.ndarray]  # some of the people

SHARD_PEOPLE = 256
WINDOWS = ('locs', 'peaks', 'raw', 'smoothed', 'x', 'y')  # what stays on disk


def distributed_map(function: Callable, items: Iterable, description: str) -> List:
    """Apply a function to items, shared by all processes.

    Args:
        function (callable): Of one item.
        items (iterable): The same in every process.
        description (str): What is done, for its progress.

    Returns:
        list: The results in the order of the items, in every process.
    """
    rank, world_size = get_dist_info()
    items = list(items)
    own = [function(item) for item in track(items[rank::world_size], description)]
    if world_size == 1:
        return own
    shares = all_gather_object(own)
    return [shares[i % world_size][i // world_size] for i in range(len(items))]


def read_annotations(path: str, images: Optional[Set[int]] = None) -> dict:
    """Read annotations in COCO's format without the outlines of people, which
    are most of them and of no use to keypoints.

    Args:
        path (str): The file.
        images (set[int], optional): Ids of the images that are wanted; all by
            default. Others are dropped while the file is read.
    """

    def choose(node: dict) -> Optional[dict]:
        node = _drop_outline(node)
        image = node.get('image_id', node['id'] if 'file_name' in node else None)
        return None if images is not None and image not in images and image is not None else node

    content = json.loads(Path(path).read_text(), object_hook=choose)
    for name in ('images', 'annotations'):
        content[name] = [node for node in content[name] if node is not None]
    return content


def without_outlines(path: Path, work_dir: Path) -> Path:
    """Annotations as the first process writes them once, without the outlines
    of people: MMPose's data sets hold every annotation three times. Those in
    another format than JSON stay as they are.

    Args:
        path (Path): The annotations.
        work_dir (Path): The copy goes there; every process has to see it.
    """
    if path.suffix != '.json':
        return path
    copied = (work_dir / f'annotations-{file_sha256(path)[:12]}.json').resolve()
    if is_main_process() and not copied.is_file():
        copied.parent.mkdir(parents=True, exist_ok=True)
        content = json.loads(path.read_text(), object_hook=_drop_outline)
        with whole_file(copied) as unfinished, open(unfinished, 'w') as file:
            json.dump(content, file)
    barrier()
    return copied


def _drop_outline(node: dict) -> dict:
    node.pop('segmentation', None)
    return node


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
        work_dir (Path, optional): Where it reads annotations without outlines
            from, see :func:`without_outlines`.
    """
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    dataset = dataset_config(cfg, split)
    if work_dir is not None:
        dataset.ann_file = str(without_outlines(_annotations(cfg, split), work_dir))
    with quiet():
        built = DATASETS.build(dataset)
    built.__dict__.pop('coco', None)  # what it was read from, which MMPose keeps
    return built


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
    """The captured people. What is small is here, windows are on disk.

    Attributes:
        shards (list[Path]): The files.
        arrays (dict): Of all people in order: ``id``, ``img_id``, ``area``
            (N,), ``scores`` (N, K), annotations ``gt_NAME`` and keypoints of
            reference decoders ``by_NAME`` (N, K, 2) in image pixels.
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
    parts = []
    for path in shards:
        with np.load(path) as shard:
            parts.append({name: shard[name] for name in shard.files if name not in WINDOWS})
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    people = People(shards, arrays, metainfo, ann_file)
    for name in list(arrays):
        if name.startswith('by_'):
            arrays[name] = people.to_image(arrays[name], slice(None))
    return people


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
