# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decodes one forward pass by many codecs and evaluates each."""

import contextlib
import json
import pickle
import tempfile
from pathlib import Path
from typing import BinaryIO, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpose.evaluation.metrics import (
    EPE,
    NME,
    CocoMetric,
    MpiiPCKAccuracy,
    PCKAccuracy,
)
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS

from ...utils.console import quiet, track
from ...utils.files import save_arrays, whole_file
from ...utils.inference import build_model, describe, load_weights, network_outputs, pose_head
from ..metrics import PCK_NAMES, RELIABILITY, keypoint_oks, write_compactly
from ..reliability import reliability
from .decoders import calibrated_on
from .errors import CompareError
from .runs import Run

RESULTS = 4  # raise when a row's files hold something else
NME_THRESHOLD = 0.1  # of the norm: a failure, as of WFLW (Wu et al., 2018, Section 5.1)


def load_model(run: Run, checkpoint: str) -> TopdownPoseEstimator:
    """Build a run's model with the weights of a checkpoint.

    Raises:
        CompareError: The checkpoint cannot be read or is of another model.
    """
    model = build_model(run.cfg)
    try:
        load_weights(model, checkpoint)
    except ValueError as error:
        raise CompareError(f'{run.name}: {error}') from error
    return model.to(get_device())


def result_file(prefix: Path) -> Path:
    """Where :func:`evaluate` writes what a decoder reached: it appears last of
    the files of its prefix."""
    return Path(f'{prefix}.json')


@torch.no_grad()
def evaluate(
    run: Run, checkpoint: str, decoders: Dict[str, dict], prefixes: Dict[str, Path]
) -> None:
    """Evaluate decoders on one forward pass over the test data.

    Every batch of network outputs is decoded by all and dropped, and what
    metrics keep of it waits on disk. In a distributed run every process calls
    it: MMEngine's sampler shares the samples, its metrics collect the
    predictions in the order of the data set and leave out those by which the
    sampler padded, and the first process writes the files.

    Args:
        run (Run): The run.
        checkpoint (str): Its weights.
        decoders (dict): Codec configs by name.
        prefixes (dict): For each name, where its files go: ``PREFIX.json``
            has the ``metrics`` (the config's, and how far scores can be trusted, see
            :func:`~mmpose_simcc.workbench.reliability.reliability`), the
            ``decoder``, on what its scores are ``calibrated_on``, and the
            ``checkpoint``;
            ``PREFIX.npz`` has ``ids``, ``img_ids`` (N,), ``keypoints`` (N, K,
            2) in image pixels and ``scores`` (N, K) in the order of the data
            set, and for each value of PCK, NME and EPE, by its name,
            ``distances/NAME`` (N, K), normalised; where there is a truth to
            compare with, ``similarity`` (N, K), see :class:`.Similarity`; a
            COCO metric adds ``PREFIX.keypoints.json`` in COCO's format.

    Raises:
        CompareError: The checkpoint does not fit.
    """
    with contextlib.ExitStack() as stack:
        kept = {
            name: stack.enter_context(tempfile.TemporaryFile(dir=prefixes[name].parent))
            for name in decoders
        }
        size, metainfo = _decode_all(run, checkpoint, decoders, kept)
        for name, decoder in decoders.items():
            with quiet():
                evaluator = build_evaluator(run, metainfo, prefixes[name])
                take_back(evaluator, kept[name])
                metrics = evaluator.evaluate(size)
            if is_main_process():
                result = dict(
                    # those of the scores last
                    metrics={
                        key: float(metrics[key])
                        for key in sorted(metrics, key=RELIABILITY.__contains__)
                    },
                    decoder=decoder,
                    checkpoint=checkpoint,
                    calibrated_on=calibrated_on(decoder),
                )
                with whole_file(result_file(prefixes[name])) as unfinished:
                    unfinished.write_text(json.dumps(result, default=list))


def _decode_all(
    run: Run, checkpoint: str, decoders: Dict[str, dict], kept: Dict[str, BinaryIO]
) -> Tuple[int, dict]:
    """The forward pass: each decoder's file gets what metrics keep of it.

    Returns:
        tuple: How many samples there are in all processes, and the data set's
        ``metainfo``.
    """
    model = load_model(run, checkpoint)
    head = pose_head(model)
    codecs = {name: KEYPOINT_CODECS.build(decoder) for name, decoder in decoders.items()}
    with quiet():
        loader = Runner.build_dataloader(run.cfg.test_dataloader, seed=0)
        evaluator = build_evaluator(run, loader.dataset.metainfo)
    batches = track(loader, f'evaluate {run.name}')
    for outputs, samples in network_outputs(model, batches):
        for name, codec in codecs.items():
            head.decoder = codec
            # MMPose tells one tensor from several by their type
            decoded = head.decode(outputs if len(outputs) > 1 else outputs[0])
            model.add_pred_to_datasample(decoded, None, samples)
            evaluator.process(samples)
            put_aside(evaluator, kept[name])
    return len(loader.dataset), loader.dataset.metainfo


def put_aside(evaluator: Evaluator, file: BinaryIO) -> None:
    """Append what metrics keep to a file. Of 100,000 detections and five
    decoders it is a million small objects; those between the batches' large
    ones would, moreover, keep the allocator from giving these back."""
    pickle.dump([metric.results for metric in evaluator.metrics], file)
    for metric in evaluator.metrics:
        metric.results.clear()


def take_back(evaluator: Evaluator, file: BinaryIO) -> None:
    """Give metrics what :func:`put_aside` wrote. Predictions come first from
    now on: they are gone when COCO's metric needs the memory."""
    size = file.tell()
    file.seek(0)
    while file.tell() < size:
        for metric, results in zip(evaluator.metrics, pickle.load(file)):
            metric.results += results
    evaluator.metrics.insert(0, evaluator.metrics.pop())


def _score_the_file(metric: CocoMetric) -> None:
    """Let COCO's metric do in two steps what it does in one: write its results, drop them, and
    score the file, of which it makes objects again."""
    compute = metric.compute_metrics

    def compute_metrics(results: list) -> Dict[str, float]:
        metric.format_only = True
        compute(results)
        results.clear()
        metric.results.clear()
        return dict(metric._do_python_keypoint_eval(metric.outfile_prefix))

    metric.compute_metrics = compute_metrics


def build_metrics(run: Run) -> List[BaseMetric]:
    """A run's metrics.

    Raises:
        CompareError: They cannot be built, or belong to several data sets.
    """
    evaluator = run.cfg.test_evaluator
    if isinstance(evaluator, dict) and evaluator.get('type') == 'MultiDatasetEvaluator':
        raise CompareError(
            f'{run.name}: `test_evaluator` is a MultiDatasetEvaluator: compare on one data set '
            'at a time, with `test_evaluator` a metric or a list of metrics'
        )
    init_default_scope(run.cfg.get('default_scope', 'mmpose'))
    try:
        with quiet():
            return Evaluator(evaluator).metrics
    except Exception as error:  # metrics are built by anybody's code
        raise CompareError(f'{run.name}: `test_evaluator`: {describe(error)}') from error


def build_evaluator(run: Run, metainfo: dict, prefix: Optional[Path] = None) -> Evaluator:
    """The run's metrics and :class:`_Predictions`; with a prefix such that
    they can write their files."""
    metrics = build_metrics(run)
    evaluator = Evaluator([*metrics, _Predictions(f'{prefix}.npz', metrics)])
    evaluator.dataset_meta = metainfo
    for metric in evaluator.metrics:
        metric.collect_dir = f'{prefix}.parts'  # on the disk that all processes see
        if hasattr(metric, 'outfile_prefix'):
            metric.outfile_prefix = str(prefix)
        if write_compactly(metric) and not metric.format_only:
            _score_the_file(metric)
    return evaluator


def result_key(metric: BaseMetric, name: str) -> str:
    """MMPose's name of a metric's value."""
    return f'{metric.prefix}/{name}' if metric.prefix else name


def distance_names(metric: BaseMetric) -> Dict[str, str]:
    """The values of a metric that come from the normalised distance of each
    keypoint, and what that is divided by: an item of the sample, a pair of
    keypoints, or nothing.

    JHMDB's, whose PCK has two sizes, has none, nor has any that is not known
    here.
    """
    if type(metric) is PCKAccuracy:
        return {PCK_NAMES[item]: f'{item}_size' for item in metric.norm_item}
    if type(metric) is MpiiPCKAccuracy:
        return {'PCK': 'head_size'} if 'head' in metric.norm_item else {}
    if type(metric) is NME:
        return {'NME': metric.norm_item or 'keypoints'}
    return {'EPE': ''} if type(metric) is EPE else {}


def _sample_distances(metric: BaseMetric, sample: dict, divisor: str) -> np.ndarray:
    """Of one person, shape (K,)."""
    truth = sample['gt_coords'][0]
    # MPII counts pixels from 1
    offset = sample['pred_coords'][0] + isinstance(metric, MpiiPCKAccuracy) - truth
    if divisor == 'keypoints':
        pair = metric.keypoint_indices
        if pair is None:
            pair = metric.DEFAULT_KEYPOINT_INDICES[metric.dataset_meta['dataset_name']]
        size = np.linalg.norm(truth[pair[0]] - truth[pair[1]])
    else:
        size = sample[divisor] if divisor else 1.0
    counts = sample['mask'][0] & (np.min(size) > 0)
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where(counts, np.linalg.norm(offset / size, axis=-1), np.nan)


class Similarity(NamedTuple):
    """What a keypoint's score is held against, by the metric that its model is judged by.

    Attributes:
        metric (BaseMetric): The metric.
        key (str): ``'OKS'``, or MMPose's name of a value whose normalised distance counts.
        threshold (float, optional): Distance below which a keypoint is right.
    """

    metric: BaseMetric
    key: str
    threshold: Optional[float] = None

    def __str__(self) -> str:
        return self.key if self.is_oks else f'{self.key} distance < {self.threshold:g}'

    @property
    def is_oks(self) -> bool:
        return self.threshold is None

    def of(self, sample: dict, distances: Dict[str, np.ndarray]) -> np.ndarray:
        """Of one person, shape (K,); NaN where there is no truth."""
        if self.is_oks:
            return _sample_oks(self.metric, sample)
        distance = distances[f'distances/{self.key}']
        return np.where(np.isnan(distance), np.nan, distance < self.threshold)


def find_similarity(metrics: List[BaseMetric]) -> Optional[Similarity]:
    """By the first metric that has one: OKS with the data set's sigmas for COCO's, P(distance <
    t) for PCK (with its own t) and NME (t = 0.1)."""
    for metric in metrics:
        if isinstance(metric, CocoMetric):
            return Similarity(metric, 'OKS')
        for name in distance_names(metric):
            threshold = getattr(metric, 'thr', NME_THRESHOLD if name == 'NME' else None)
            if threshold is not None:
                return Similarity(metric, result_key(metric, name), threshold)
    return None


def _sample_oks(metric: CocoMetric, sample: dict) -> np.ndarray:
    """Of one person, shape (K,); NaN without a truth, as people have none whom a detector
    found."""
    truth, predicted = sample['gt_instances'], sample['pred_instances']['keypoints'][0]
    annotation = sample.get('raw_ann_info')
    if annotation is None:
        return np.full(len(predicted), np.nan)
    x1, y1, x2, y2 = truth['bboxes'][0]
    area = 0.53 * (x2 - x1) * (y2 - y1)  # CocoMetric's without segments
    if metric.use_area:
        area = annotation.get('area', area)
    oks = keypoint_oks(
        np.float64(predicted - truth['keypoints'][0]), area, metric.dataset_meta['sigmas']
    )
    visible = truth['keypoints_visible'][0].reshape(len(oks), -1)[:, 0] > 0
    return np.where(visible, oks, np.nan)


class _Predictions(BaseMetric):
    """Writes predictions, and the distances that other metrics count; says
    how far scores can be trusted.

    Args:
        path (str): The file, see :func:`evaluate`.
        metrics (list[BaseMetric]): The others; they process a batch before
            this one does.
    """

    def __init__(self, path: str, metrics: Sequence[BaseMetric]) -> None:
        super().__init__()
        self.path = path
        self._distances = {
            f'distances/{result_key(metric, name)}': (metric, divisor)
            for metric in metrics
            for name, divisor in distance_names(metric).items()
        }
        self._similarity = find_similarity(metrics)

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        size = len(data_samples)
        distances = {
            key: [_sample_distances(metric, result, divisor) for result in metric.results[-size:]]
            for key, (metric, divisor) in self._distances.items()
        }
        for i, sample in enumerate(data_samples):
            instances = sample['pred_instances']
            result = dict(
                ids=sample['id'],
                img_ids=sample['img_id'],
                keypoints=np.float32(instances['keypoints'][0]),
                scores=np.float32(instances['keypoint_scores'][0]),
                **{key: np.float32(values[i]) for key, values in distances.items()},
            )
            if self._similarity:
                result['similarity'] = np.float32(self._similarity.of(sample, result))
            self.results.append(result)

    def compute_metrics(self, results: List[dict]) -> dict:
        arrays = {key: np.array([result[key] for result in results]) for key in results[0]}
        save_arrays(self.path, **arrays)
        return reliability(arrays['scores'], arrays['similarity']) if self._similarity else {}
