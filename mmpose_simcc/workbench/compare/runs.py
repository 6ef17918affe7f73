# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What is compared: configs on data, and what tells two of them apart."""

import copy
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.codecs import SimCCLabel
from mmpose.registry import DATASETS, KEYPOINT_CODECS, MODELS

from ...codecs import SimCCCodec, equivalent_codec
from ...codecs.base import TensorCodec
from ...codecs.heatmap import BaseHeatmapCodec
from ...config import check_frames
from ...utils.files import file_sha256
from ...utils.inference import describe, load_config, pose_head_cfg
from ..hold_out import hold_out
from ..identity import Content, digest, versions
from .errors import CompareError

HOW_TO_GET_COCO = (
    'draw toy data with `python tools/make_toy_coco.py data/toy_coco`, or '
    'unpack COCO 2017 (https://cocodataset.org/#download) as '
    'ROOT/{annotations,train2017,val2017} and give --data ROOT (calibrate_scores.py: --data-root)'
)
HOW_TO_GET_OTHERS = (
    "lay the data set out there as MMPose's documentation says (Dataset Zoo), or give the folder "
    'where it is as --data (calibrate_scores.py: --data-root)'
)

# what decides how a network is trained, beside its data
SCHEDULE = (
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'train_cfg',
    'custom_hooks',
    'model_wrapper_cfg',
    'randomness',
    'load_from',
)
# the default hooks that only look on
ONLOOKERS = ('timer', 'logger', 'checkpoint', 'visualization', 'badcase', 'config_check')


@dataclass
class Run:
    """One trained model in a comparison.

    Attributes:
        name (str): Short name, unique in a comparison.
        cfg (Config): The resolved config.
        checkpoint (str, optional): Weights. None: it is trained.
        factors (dict): What a study varies, by name, for tables and plots.
        seeds (int): How many times it is trained, see :meth:`trainings`.
    """

    name: str
    cfg: Config
    checkpoint: Optional[str] = None
    factors: Dict[str, Any] = field(default_factory=dict)
    seeds: int = 1

    def trainings(self) -> List['Run']:
        """A run for each training: the config's own seed (0 where it has
        none) and those that follow it. A checkpoint is one."""
        if self.checkpoint or self.seeds == 1:
            return [self]
        first = self.cfg.get('randomness', {}).get('seed') or 0
        trainings = []
        for seed in range(first, first + self.seeds):
            cfg = copy.deepcopy(self.cfg)
            cfg.merge_from_dict(dict(randomness=dict(seed=seed)))
            trainings.append(replace(self, name=f'{self.name}, seed {seed}', cfg=cfg, seeds=1))
        return trainings

    @property
    def head(self) -> dict:
        """The config of the head that predicts keypoints."""
        return pose_head_cfg(self.cfg)

    def build_codec(self):
        """The codec of the head."""
        init_default_scope(self.cfg.get('default_scope', 'mmpose'))
        return KEYPOINT_CODECS.build(self.head.decoder)

    def equivalent_codec(self) -> Optional[TensorCodec]:
        """The codec of this package that reads the head's outputs: its own,
        or the one that corresponds to a stock codec. None: there is none."""
        codec, loss = self.build_codec(), None
        if isinstance(codec, SimCCLabel) and self.head.get('loss'):
            try:  # it says what the outputs mean
                loss = MODELS.build(self.head.loss)
            except Exception as error:  # of anybody's code
                raise CompareError(f'{self.name}: `model.head.loss`: {describe(error)}') from error
        try:
            return equivalent_codec(codec, loss)
        except ValueError:
            return None

    @property
    def scheme(self) -> str:
        """The representation in words."""
        codec = self.equivalent_codec()
        if isinstance(codec, SimCCCodec):
            return f'SimCC, {codec.label_smoothing}, k={codec.simcc_split_ratio:g}'
        if isinstance(codec, BaseHeatmapCodec):
            biased = 'unbiased' if codec.unbiased else 'biased'
            return f'heatmap, {biased}' + (', UDP' if codec.use_udp else '')
        return self.head.decoder.type

    @property
    def box_files(self) -> Set[str]:
        """Those of the test data's detected boxes; none where people are cut out by annotated
        ones."""
        return {d['bbox_file'] for d in datasets_of(self.cfg, 'test') if d.get('bbox_file')}

    @property
    def boxes(self) -> str:
        """What people are cut out by: annotated boxes, or those of which
        file, with the detector's AP where its name has it."""
        words = []
        for name in sorted(Path(file).name for file in self.box_files):
            ap = re.search(r'_AP_H_(\d+)', name)
            words.append(f'{name} (detector AP {ap[1]})' if ap else name)
        return ', '.join(words) or 'annotated'

    @property
    def annotation_files(self) -> List[Path]:
        """Those of the test data."""
        return [path_of(d, d['ann_file']) for d in datasets_of(self.cfg, 'test')]

    @property
    def sigmas(self) -> List[float]:
        """Those of the test data's keypoints, on which OKS depends."""
        cfg = self.cfg.test_dataloader.dataset.copy()
        cfg.update(lazy_init=True, pipeline=[])
        init_default_scope(self.cfg.get('default_scope', 'mmpose'))
        return [float(sigma) for sigma in DATASETS.build(cfg).metainfo['sigmas']]

    @property
    def test_data(self) -> str:
        """Equal for runs that are tested on the same annotations."""
        return digest([file_sha256(path) for path in self.annotation_files])


def read_config(name: str) -> Config:
    """Read a top-down config with one codec.

    Raises:
        CompareError: It is none, or its codec and its pipelines contradict
            each other.
    """
    try:
        cfg = load_config(name)
    except ValueError as error:
        raise CompareError(' '.join(str(error).split())) from error
    if not isinstance(pose_head_cfg(cfg).get('decoder'), dict):
        raise CompareError(f'config {name}: the head has no codec as `decoder`')
    try:
        check_frames(cfg)
    except ValueError as error:
        raise CompareError(f'config {name}: {error}') from error
    for part in ('train_dataloader', 'test_dataloader', 'test_evaluator'):
        if not cfg.get(part):
            raise CompareError(f'config {name} has no `{part}`')
    return cfg


def _dicts(node) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for child in node:
        yield from _dicts(child)


def datasets_of(cfg: Config, split: str) -> List[dict]:
    """The configs of the data sets that read annotations."""
    return [d for d in _dicts(cfg[f'{split}_dataloader']) if 'ann_file' in d]


def path_of(dataset: dict, name: str) -> Path:
    """Where a file or folder that the config of a data set names lies."""
    return Path(dataset.get('data_root') or '', name)


def use_data(cfg: Config, root: str) -> None:
    """Point a config at other data of the same layout, in place.

    Args:
        cfg (Config): The config.
        root (str): Folder in place of every ``data_root``; annotations and
            detected boxes that lie in one are found there.
    """
    root = root.rstrip('/') + '/'
    old = {
        dataset['data_root']
        for split in ('train', 'val', 'test')
        if cfg.get(f'{split}_dataloader')
        for dataset in datasets_of(cfg, split)
        if dataset.get('data_root')
    }

    def move(node: dict, name: str) -> None:
        for folder in old:
            if (node.get(name) or '').startswith(folder):
                node[name] = root + node[name][len(folder) :]
                return

    for node in _dicts(cfg._cfg_dict):
        if 'data_root' in node and node.get('ann_file') is not None:
            node['data_root'] = root
        elif isinstance(node.get('ann_file'), str):
            move(node, 'ann_file')
        move(node, 'bbox_file')


def use_annotated_boxes(cfg: Config) -> None:
    """Test on annotated boxes, in place of detected ones, in place."""
    for node in _dicts(cfg._cfg_dict):
        if node.get('bbox_file'):
            node['bbox_file'] = ''


def use_split(cfg: Config) -> None:
    """Test on the training data and their annotated boxes, in place."""
    train = datasets_of(cfg, 'train')[0]
    test_on(cfg, path_of(train, train['ann_file']))


def use_hold_out(cfg: Config, folder: Path) -> None:
    """Train on four fifths of the training images and test on the others, in
    place.

    Args:
        cfg (Config): The config.
        folder (Path): Gets the annotations.

    Raises:
        CompareError: The annotations cannot be split.
    """
    train = datasets_of(cfg, 'train')[0]
    path = path_of(train, train['ann_file'])
    try:
        kept, held_out = hold_out(path, folder)
    except (OSError, ValueError) as error:
        raise CompareError(f'hold-out of the training data: {error}') from error
    train['ann_file'] = str(kept.resolve())
    test_on(cfg, held_out)


def set_schedule(cfg: Config, lr: Optional[float] = None, epochs: Optional[int] = None) -> None:
    """Change the learning rate, and the number of epochs with the schedules
    that count them, in place.

    Raises:
        CompareError: The config does not have what is to be changed.
    """
    if lr is not None:
        optimizer = cfg.optim_wrapper.get('optimizer')
        if not isinstance(optimizer, dict):
            raise CompareError('lr: the config has no `optim_wrapper.optimizer`')
        optimizer['lr'] = lr
    if epochs is None:
        return
    if not cfg.train_cfg.get('max_epochs'):
        raise CompareError('epochs: the config has no `train_cfg.max_epochs`')
    stretch = epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    for scheduler in cfg.get('param_scheduler') or ():
        if scheduler.get('by_epoch', True):
            for name in ('begin', 'end', 'T_max', 'step_size'):
                if name in scheduler:
                    scheduler[name] = round(stretch * scheduler[name])
            if 'milestones' in scheduler:
                scheduler['milestones'] = [round(stretch * m) for m in scheduler['milestones']]


def test_on(cfg: Config, ann_file: Path) -> None:
    """Test on other annotations of the training images and annotated boxes."""
    train = datasets_of(cfg, 'train')[0]
    test = datasets_of(cfg, 'test')[0]
    old, new = path_of(test, test['ann_file']), ann_file.resolve()  # not below a data_root
    for name in ('data_root', 'data_prefix'):
        test[name] = train[name]
    test['ann_file'] = str(new)
    test['bbox_file'] = ''
    for node in _dicts(cfg.test_evaluator):
        if node.get('ann_file') and Path(node['ann_file']) == old:
            node['ann_file'] = str(new)


def check_data(run: Run, split: str) -> None:
    """See that a run's data are there, detected boxes among them.

    Raises:
        CompareError: They are not; the message says how to get them.
    """
    for dataset in datasets_of(run.cfg, split):
        bbox_file = dataset.get('bbox_file')
        if bbox_file and not Path(bbox_file).is_file():
            raise CompareError(
                f'{run.name}: there is no {bbox_file}, the detected boxes that the config '
                'names: get them, or take the annotated boxes with --gt-boxes'
            )
        folders = (dataset.get('data_prefix') or {}).values()
        for name in (dataset['ann_file'], *folders):
            if not path_of(dataset, name).exists():
                how = HOW_TO_GET_COCO if dataset.type == 'CocoDataset' else HOW_TO_GET_OTHERS
                raise CompareError(f'{run.name}: there is no {path_of(dataset, name)}: {how}')


def _label_identity(codec: dict) -> dict:
    """What of a codec matters to the labels it encodes."""
    built = KEYPOINT_CODECS.build(codec)
    if isinstance(built, SimCCCodec):
        label = dict(
            bins=built.num_bins,
            split_ratio=built.simcc_split_ratio,
            smoothing=built.label_smoothing,
        )
        if built.label_smoothing == 'equal':
            label['epsilon'] = built.smoothing
        elif built.label_smoothing != 'none':
            label['sigma'] = built.sigma
        return label
    if isinstance(built, BaseHeatmapCodec):
        return dict(
            input_size=built.input_size,
            heatmap_size=built.heatmap_size,
            sigma=float(built.sigma),
            unbiased=built.unbiased,
        )
    return codec


def _data_identity(cfg: Config, split: str, content: Content) -> Any:
    """Data sets and what is done to them."""
    identity = cfg.to_dict()[f'{split}_dataloader']
    for node in _dicts(identity):
        if node.get('type') == 'GenerateTarget':
            node['encoder'] = _label_identity(node['encoder'])
    return content.of(identity)


def _network_identity(cfg: Config) -> dict:
    """The network, without what only decodes its output."""
    cfg = cfg.to_dict()
    model, head = cfg['model'], pose_head_cfg(cfg)
    decoder = head.pop('decoder')
    for name in ('input_size', 'simcc_split_ratio'):
        if name in decoder:  # by default the head's are the codec's
            head.setdefault(name, decoder[name])
    model.pop('test_cfg', None)
    return Content().of(model)


def training_identity(run: Run, processes: int = 1, content: Optional[Content] = None) -> str:
    """Equal for runs that one training serves: those that differ in their
    decoder alone, for example.

    Args:
        run (Run): The run.
        processes (int): Those that train it; with their number the batch of a
            step grows.
        content (Content, optional): Looks at the data; by default anew.
    """
    content = content or Content()
    cfg = run.cfg
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    schedule = {name: cfg.get(name) for name in SCHEDULE}
    if isinstance(schedule['train_cfg'], dict):
        schedule['train_cfg'] = {
            name: value
            for name, value in schedule['train_cfg'].items()
            if not name.startswith('val_')
        }
    hooks = cfg.get('default_hooks') or {}
    schedule['hooks'] = {name: hook for name, hook in hooks.items() if name not in ONLOOKERS}
    return digest(
        [
            versions(),
            processes,
            _network_identity(cfg),
            _label_identity(run.head.decoder),
            _data_identity(cfg, 'train', content),
            content.of(schedule),
        ]
    )


def network_identity(run: Run) -> str:
    """Equal for runs whose networks do the same work."""
    return digest(_network_identity(run.cfg))


def forward_identity(run: Run, weights: str, content: Optional[Content] = None) -> str:
    """Equal for runs that one forward pass over the test data serves.

    Args:
        run (Run): The run.
        weights (str): What the weights come from: digest of a checkpoint or
            a training's identity.
        content (Content, optional): Looks at the data; by default anew.
    """
    content = content or Content()
    cfg = run.cfg
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    return digest(
        [
            versions(),
            weights,
            _network_identity(cfg),
            cfg.model.get('test_cfg'),
            _data_identity(cfg, 'test', content),
            content.of(cfg.to_dict()['test_evaluator']),
        ]
    )
