# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decodes one forward pass by many codecs and evaluates each."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpose.evaluation.metrics import EPE, NME, CocoMetric, MpiiPCKAccuracy, PCKAccuracy
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS

from ...utils.console import quiet, track
from ...utils.files import save_arrays
from ...utils.inference import build_model, describe, load_weights, network_outputs, pose_head
from ..metrics import PCK_NAMES, keypoint_oks
from ..reliability import reliability
from .errors import CompareError
from .runs import Run

RESULTS = 3  # raise when a row's files hold something else
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


@torch.no_grad()
def evaluate(
    run: Run, checkpoint: str, decoders: Dict[str, dict], prefixes: Dict[str, Path]
) -> Dict[str, Dict[str, float]]:
    """Evaluate decoders on one forward pass over the test data.

    Memory stays flat: every batch of network outputs is decoded by all and
    dropped.

    Args:
        run (Run): The run.
        checkpoint (str): Its weights.
        decoders (dict): Codec configs by name.
        prefixes (dict): For each name, where its predictions go:
            ``PREFIX.npz`` has ``ids``, ``img_ids`` (N,), ``keypoints`` (N, K,
            2) in image pixels and ``scores`` (N, K) in the order of the data
            set, and for each value of PCK, NME and EPE, by its name,
            ``distances/NAME`` (N, K), normalised; where there is a truth to
            compare with, ``similarity`` (N, K), see :class:`.Similarity`; a
            COCO metric adds ``PREFIX.keypoints.json`` in COCO's format.

    Returns:
        dict: For each name, the values of the config's metrics, and how far
        scores can be trusted, see
        :func:`~mmpose_simcc.workbench.reliability.reliability`.

    Raises:
        CompareError: The checkpoint does not fit.
    """
    cfg = run.cfg
    model = load_model(run, checkpoint)
    head = pose_head(model)
    codecs = {name: KEYPOINT_CODECS.build(decoder) for name, decoder in decoders.items()}
    with quiet():
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
        evaluators = {
            name: _build_evaluator(run, prefixes[name], loader.dataset.metainfo) for name in codecs
        }
    predictions = {name: [] for name in codecs}
    oks = {name: [] for name in codecs}
    similarity = find_similarity(next(iter(evaluators.values())).metrics)

    batches = track(loader, f'evaluate {run.name}')
    for outputs, samples in network_outputs(model, batches):
        for name, codec in codecs.items():
            head.decoder = codec
            # MMPose tells one tensor from several by their type
            decoded = head.decode(outputs if len(outputs) > 1 else outputs[0])
            model.add_pred_to_datasample(decoded, None, samples)
            evaluators[name].process(samples)
            predictions[name] += [_prediction(sample) for sample in samples]
            if similarity and similarity.is_oks:
                oks[name] += [_sample_oks(similarity.metric, sample) for sample in samples]

    metrics = {}
    for name, evaluator in evaluators.items():
        stored = _arrays(predictions.pop(name), _distances(evaluator))
        if similarity:
            stored['similarity'] = similarity.of(np.array(oks.pop(name), np.float32), stored)
        save_arrays(f'{prefixes[name]}.npz', **stored)
        with quiet():
            metrics[name] = {
                key: float(value) for key, value in evaluator.evaluate(len(loader.dataset)).items()
            }
        if similarity:
            metrics[name].update(reliability(stored['scores'], stored['similarity']))
    return metrics


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


def _build_evaluator(run: Run, prefix: Path, metainfo: dict) -> Evaluator:
    evaluator = Evaluator(build_metrics(run))
    evaluator.dataset_meta = metainfo
    for metric in evaluator.metrics:
        if hasattr(metric, 'outfile_prefix'):
            metric.outfile_prefix = str(prefix)
    return evaluator


def _prediction(sample) -> Tuple[Any, Any, np.ndarray, np.ndarray]:
    instances = sample.pred_instances
    return (sample.id, sample.img_id, instances.keypoints[0], instances.keypoint_scores[0])


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


def _distances(evaluator: Evaluator) -> Dict[str, np.ndarray]:
    """For each value of a metric that comes from them, the normalised
    distances (N, K), NaN where a keypoint does not count."""
    found = {}
    for metric in evaluator.metrics:
        for name, divisor in distance_names(metric).items():
            found[f'distances/{result_key(metric, name)}'] = np.array(
                [_sample_distances(metric, sample, divisor) for sample in metric.results],
                np.float32,
            )
    return found


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

    def of(self, oks: np.ndarray, stored: Dict[str, np.ndarray]) -> np.ndarray:
        """Shape (N, K), NaN where there is no truth."""
        if self.is_oks:
            return oks
        distances = stored[f'distances/{self.key}']
        return np.where(np.isnan(distances), np.nan, distances < self.threshold).astype(np.float32)


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


def _sample_oks(metric: CocoMetric, sample) -> np.ndarray:
    """Of one person, shape (K,); NaN without a truth, as people have none whom a detector
    found."""
    truth, predicted = sample.gt_instances, sample.pred_instances.keypoints[0]
    annotation = sample.metainfo.get('raw_ann_info')
    if annotation is None:
        return np.full(len(predicted), np.nan)
    x1, y1, x2, y2 = truth.bboxes[0]
    area = 0.53 * (x2 - x1) * (y2 - y1)  # CocoMetric's without segments
    if metric.use_area:
        area = annotation.get('area', area)
    oks = keypoint_oks(
        np.square(predicted - truth.keypoints[0]).sum(-1),
        np.float64(area),
        metric.dataset_meta['sigmas'],
    )
    visible = truth.keypoints_visible[0].reshape(len(oks), -1)[:, 0] > 0
    return np.where(visible, oks, np.nan)


def _arrays(predictions: List[tuple], distances: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    ids, img_ids, keypoints, scores = zip(*predictions)
    return dict(
        ids=np.array(ids),
        img_ids=np.array(img_ids),
        keypoints=np.array(keypoints, np.float32),
        scores=np.array(scores, np.float32),
        **distances,
    )
