# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""One model of a comparison: its config, its data, and what can be varied in it."""

import copy
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import numpy as np
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import init_default_scope
from mmpose.codecs import SimCCLabel
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import DATASETS, KEYPOINT_CODECS, MODELS

from ...codecs import SimCCCodec, equivalent_codec
from ...codecs.base import TensorCodec
from ...codecs.calibration import FLIP_TESTS
from ...codecs.heatmap import BaseHeatmapCodec
from ...config import check_frames, set_representation
from ...models import ExactFlipPoseEstimator
from ...utils.configs import dicts, type_name
from ...utils.files import file_sha256
from ...utils.inference import load_config, one_line, pose_head_cfg
from ..data.coco import annotations_of, datasets_of, path_of
from ..identity import digest
from ..scoring import build_metrics
from .data import use_data
from .errors import CompareError

HOW_TO_GET_COCO = (
    'draw toy data with `python tools/make_toy_coco.py data/toy_coco`, or '
    'unpack COCO 2017 (https://cocodataset.org/#download) as '
    'ROOT/{annotations,train2017,val2017} and give --data ROOT'
)
HOW_TO_GET_OTHERS = (
    "lay the data set out there as MMPose's documentation says (Dataset Zoo), or give the folder "
    'where it is as --data'
)


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
        """A run for each training, with the config's own seed (0 where it has
        none) and those that follow it. A checkpoint counts as one training."""
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

    def equivalent_codec(self, cfg: Optional[dict] = None) -> Optional[TensorCodec]:
        """The codec of this package that reads the head's outputs: its own,
        or the one that corresponds to a stock codec. None if there is none.

        Args:
            cfg (dict, optional): Config of another codec than the head's.
        """
        init_default_scope(self.cfg.get('default_scope', 'mmpose'))
        codec, loss = KEYPOINT_CODECS.build(cfg or self.head.decoder), None
        if isinstance(codec, SimCCLabel) and self.head.get('loss'):
            try:  # it says what the outputs mean
                loss = MODELS.build(self.head.loss)
            except Exception as error:  # of anybody's code
                raise CompareError(f'{self.name}: `model.head.loss`: {one_line(error)}') from error
        try:
            return equivalent_codec(codec, loss)
        except ValueError:
            return None

    def build_metrics(self) -> List[BaseMetric]:
        """The metrics of the test data.

        Raises:
            CompareError: They cannot be built, or belong to several data sets.
        """
        evaluator = self.cfg.test_evaluator
        if isinstance(evaluator, dict) and evaluator.get('type') == 'MultiDatasetEvaluator':
            raise CompareError(
                f'{self.name}: `test_evaluator` is a MultiDatasetEvaluator: compare on one data '
                'set at a time, with `test_evaluator` a metric or a list of metrics'
            )
        init_default_scope(self.cfg.get('default_scope', 'mmpose'))
        try:
            return build_metrics(evaluator, self.metainfo)
        except Exception as error:  # of anybody's code
            raise CompareError(f'{self.name}: `test_evaluator`: {one_line(error)}') from error

    @property
    def scheme(self) -> str:
        """The representation in words: that of the labels."""
        encoders = [
            node['encoder']
            for node in dicts(self.cfg.get('train_dataloader'))
            if type_name(node) == 'GenerateTarget' and isinstance(node.get('encoder'), dict)
        ]
        codec = self.equivalent_codec(*encoders[:1])
        if isinstance(codec, SimCCCodec):
            return f'SimCC, {codec.label_smoothing}, k={codec.simcc_split_ratio:g}'
        if isinstance(codec, BaseHeatmapCodec):
            biased = 'unbiased' if codec.unbiased else 'biased'
            return f'heatmap, {biased}' + (', UDP' if codec.use_udp else '')
        return self.head.decoder.type

    @property
    def codec_factors(self) -> Dict[str, Any]:
        """The codec's arguments by which tables may tell models apart, as JSON has them."""
        codec = self.build_codec()
        names = ('unbiased', 'sigma', 'label_smoothing', 'simcc_split_ratio', 'input_size')
        found = {name: getattr(codec, name) for name in names if hasattr(codec, name)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}

    @property
    def box_files(self) -> Set[str]:
        """The files of detected boxes that the test data name. Without any, people are cut out by
        annotated boxes."""
        return {d['bbox_file'] for d in datasets_of(self.cfg, 'test') if d.get('bbox_file')}

    @property
    def boxes(self) -> str:
        """The boxes by which people are cut out: ``'annotated'``, or the files of detected ones,
        with the detector's AP where the file's name tells it."""
        words = []
        for name in sorted(Path(file).name for file in self.box_files):
            ap = re.search(r'_AP_H_(\d+)', name)
            words.append(f'{name} (detector AP {ap[1]})' if ap else name)
        return ', '.join(words) or 'annotated'

    @property
    def annotation_files(self) -> List[Path]:
        """Those of the test data."""
        return [annotations_of(dataset) for dataset in datasets_of(self.cfg, 'test')]

    @property
    def metainfo(self) -> dict:
        """Of the test data: names of keypoints, sigmas and so forth."""
        cfg = self.cfg.test_dataloader.dataset.copy()
        cfg.update(lazy_init=True, pipeline=[])
        init_default_scope(self.cfg.get('default_scope', 'mmpose'))
        return DATASETS.build(cfg).metainfo

    @property
    def knows_sigmas(self) -> bool:
        """Whether the sigmas of the test data, on which OKS depends, are measured: the default of
        data sets without them is one for all keypoints."""
        return len(set(self.metainfo['sigmas'])) > 1

    @property
    def test_data(self) -> str:
        """Equal for runs that are tested on the same annotations."""
        return digest([file_sha256(path) for path in self.annotation_files])

    def check_data(self, split: str) -> None:
        """See that the data are there, detected boxes among them.

        Args:
            split (str): ``'train'`` or ``'test'``.

        Raises:
            CompareError: They are not; the message says how to get them.
        """
        for dataset in datasets_of(self.cfg, split):
            bbox_file = dataset.get('bbox_file')
            if bbox_file and not Path(bbox_file).is_file():
                raise CompareError(
                    f'{self.name}: there is no {bbox_file}, the detected boxes that the config '
                    'names: get them, or take the annotated boxes with --gt-boxes'
                )
            folders = (dataset.get('data_prefix') or {}).values()
            how = HOW_TO_GET_COCO if type_name(dataset) == 'CocoDataset' else HOW_TO_GET_OTHERS
            for part in (dataset['ann_file'], *folders):
                path = path_of(dataset, part)
                if not path.exists():
                    raise CompareError(f'{self.name}: there is no {path}: {how}')


def read_config(
    name: str, options: Optional[dict] = None, data_root: Optional[str] = None
) -> Config:
    """Read a top-down config with one codec.

    Args:
        name (str): See :func:`~mmpose_simcc.utils.inference.load_config`.
        options (dict, optional): Changes, as ``--cfg-options`` has them.
        data_root (str, optional): Folder in place of the config's ``data_root``.

    Raises:
        CompareError: It is not such a config, or its codec and its pipelines
            contradict each other.
    """
    try:
        cfg = load_config(name, options)
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
    if data_root:
        use_data(cfg, data_root)
    return cfg


def vary(cfg: Config, codec: Dict[str, Any], schedule: Dict[str, Any]) -> Config:
    """A copy of a config in which something else is trained or tested.

    Args:
        cfg (Config): The config.
        codec (dict): Arguments of its codec to change.
        schedule (dict): Any of

            - ``lr``: the optimizer's learning rate;
            - ``epochs``: their number, with which the schedules that count them are stretched;
            - ``flip_test``: ``'none'``; ``'stock'``, MMPose's, which mirrors the crop and moves
              the outputs as ``test_cfg`` says; ``'exact'``, about the centre of the box, see
              :class:`~mmpose_simcc.models.ExactFlipPoseEstimator`.

    Raises:
        CompareError: The config has no such thing, or a value is not allowed.
    """
    cfg = copy.deepcopy(cfg)
    if schedule.get('lr') is not None:
        optimizer = cfg.optim_wrapper.get('optimizer')
        if not isinstance(optimizer, dict):
            raise CompareError('lr: the config has no `optim_wrapper.optimizer`')
        optimizer['lr'] = schedule['lr']
    if schedule.get('epochs') is not None:
        _set_epochs(cfg, schedule['epochs'])
    if 'flip_test' in schedule:
        flip_test = schedule['flip_test']
        if flip_test not in FLIP_TESTS:
            raise CompareError(
                f'flip_test is {flip_test!r}, must be one of {", ".join(FLIP_TESTS)}'
            )
        cfg.model.test_cfg = dict(cfg.model.get('test_cfg') or {}, flip_test=flip_test != 'none')
        if flip_test != 'none':
            classes = dict(stock=TopdownPoseEstimator, exact=ExactFlipPoseEstimator)
            cfg.model.type = classes[flip_test].__name__
    if codec:
        own = dict(pose_head_cfg(cfg).decoder)
        own.pop('heatmap_size', None)  # follows the input size
        changes = {k: tuple(v) if isinstance(v, list) else v for k, v in codec.items()}
        try:
            set_representation(cfg, {**own, **changes})
        except ValueError as error:
            raise CompareError(str(error)) from error
    return cfg


def schedulers_of(cfg: Config) -> List[dict]:
    """The parts of a config's ``param_scheduler``, which may be one dict."""
    found = cfg.get('param_scheduler') or ()
    return [found] if isinstance(found, dict) else [*found]


def _set_epochs(cfg: Config, epochs: int) -> None:
    if not cfg.train_cfg.get('max_epochs'):
        raise CompareError('epochs: the config has no `train_cfg.max_epochs`')
    stretch = epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    for scheduler in schedulers_of(cfg):
        if scheduler.get('by_epoch', True):
            for name in {'begin', 'end', 'T_max', 'step_size'} & scheduler.keys():
                scheduler[name] = round(stretch * scheduler[name])
            if 'milestones' in scheduler:
                scheduler['milestones'] = [round(stretch * m) for m in scheduler['milestones']]
