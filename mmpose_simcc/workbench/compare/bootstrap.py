# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Metrics of stored predictions on resampled images."""

from pathlib import Path
from typing import List, Optional

import numpy as np
from mmengine.evaluator import BaseMetric
from mmpose.evaluation.metrics import CocoMetric, MpiiPCKAccuracy, PCKAccuracy
from xtcocotools.cocoeval import COCOeval

from ...utils.console import silenced
from ...utils.files import whole_file
from ..metrics import RELIABILITY, short_name
from ..reliability import Ranking, calibration_noise, with_truth
from ..scoring import distance_names, result_key, results_prefix
from ..statistics import (
    CocoMatches,
    Measured,
    average_precision,
    match_coco,
    resample,
    weighted_pck,
)
from .evaluation import build_metrics
from .rows import Row, Training
from .runs import Run

# pelvis and thorax are not in MPII's mean
MPII_LEFT_OUT = (6, 7)
FINE = 0.1  # threshold of MPII's PCK@0.1


def resampled_names(metric: BaseMetric) -> List[str]:
    """The values of a metric that can be computed on resampled images."""
    if type(metric) is CocoMetric:  # not whole bodies', with an AP of each part
        return [] if metric.coco is None else ['AP']
    names = [*distance_names(metric)]
    return [*names, 'PCK@0.1'] if names and isinstance(metric, MpiiPCKAccuracy) else names


def find_source(run: Run, key: str) -> Optional[BaseMetric]:
    """The metric of a run's config that has this value and can be computed on resampled images;
    None if there is none.

    Args:
        run (Run): The run.
        key (str): MMPose's name of the value.
    """
    for metric in build_metrics(run):
        if key in [result_key(metric, name) for name in resampled_names(metric)]:
            return metric
    return None


def measure(row: Row, run: Run, key: str) -> Optional[Measured]:
    """A metric of each training and its resamples, which are kept beside the predictions.

    Args:
        row (Row): The row.
        run (Run): Its run.
        key (str): MMPose's name of the value: ``'coco/AP'``, ``'PCK'``, ``'PCKh'``,
            ``'PCK@0.1'``, ``'NME'``, ``'EPE'``, ``'ECE'``, ``'AUROC'``.

    Returns:
        Measured: In the metric's own unit; None where there is no way.
    """
    samples = [resampled(training, run, key) for training in row.trainings]
    if samples[0] is None:
        return None
    (img_ids,) = row.trainings[0].load('img_ids')
    return Measured(
        np.array([training.metrics[key] for training in row.trainings]),
        np.stack(samples),
        tuple(training.checkpoint for training in row.trainings),
        len(np.unique(img_ids)),
        is_bound=key == 'ECE',
    )


def resampled(training: Training, run: Run, key: str) -> Optional[np.ndarray]:
    """What :func:`measure` needs of a training: a metric on resampled images, (REPEATS,), or the
    noise of ECE. It is kept beside the training's predictions. None where there is no way."""
    path = Path(f'{training.predictions}.{key.replace("/", "-")}.npy')
    if not path.is_file():
        if key in RELIABILITY:
            values = _reliability(training, key)
        else:
            metric = find_source(run, key)
            if metric is None:
                return None
            of_metric = _precision if isinstance(metric, CocoMetric) else _distances
            values = of_metric(training, run, metric, key)
        with whole_file(path) as unfinished:
            np.save(unfinished, values)
    return np.load(path)


def _precision(training: Training, run: Run, metric: CocoMetric, key: str) -> np.ndarray:
    with silenced():
        categories = match_predictions(training, metric)
    return average_precision(categories, resample(len(categories[0].annotated)))


def match_predictions(training: Training, metric: CocoMetric) -> List[CocoMatches]:
    """Match a training's stored predictions as the metric does."""
    file = f'{results_prefix(metric, training.predictions)}.keypoints.json'
    predictions = metric.coco.loadRes(file)
    evaluation = COCOeval(
        metric.coco,
        predictions,
        metric.iou_type,
        np.array(metric.dataset_meta['sigmas']),
        metric.use_area,
    )
    evaluation.params.useSegm = None
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.evaluate()
    return match_coco(evaluation)


def _distances(training: Training, run: Run, metric: BaseMetric, key: str) -> np.ndarray:
    """PCK, NME or EPE."""
    is_fine = short_name(key) == 'PCK@0.1'
    value = result_key(metric, 'PCK') if is_fine else key
    distances, img_ids = training.load(f'distances/{value}', 'img_ids')
    if isinstance(metric, MpiiPCKAccuracy):
        distances = np.delete(distances, MPII_LEFT_OUT, axis=1)
    images, index = np.unique(img_ids, return_inverse=True)
    weights = resample(len(images))
    labelled = _sum_by_image(index, ~np.isnan(distances))
    if not isinstance(metric, PCKAccuracy):  # a mean distance
        sums = _sum_by_image(index, np.nan_to_num(distances)).sum(1)
        return (weights @ sums) / (weights @ labelled.sum(1))
    hits = _sum_by_image(index, distances < (FINE if is_fine else metric.thr))  # NaN is not
    if isinstance(metric, MpiiPCKAccuracy):
        return 100 * weighted_pck(hits, labelled, weights, pooled=True)
    return weighted_pck(hits, labelled, weights, pooled=False)


def _reliability(training: Training, key: str) -> np.ndarray:
    """AUROC; how far ECE may be off."""
    scores, similarity, img_ids = training.load('scores', 'similarity', 'img_ids')
    scores, similarity, known = with_truth(scores, similarity)
    images, index = np.unique(img_ids, return_inverse=True)
    index = index[known.nonzero()[0]]  # the image of each keypoint
    weights = resample(len(images))
    if key == 'ECE':
        return calibration_noise(scores, similarity, index, weights)
    ranking = Ranking.of(scores, similarity)
    return np.array([ranking.auroc(w[index]) for w in weights])


def _sum_by_image(index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of people (N, K) summed over those of an image, (I, K)."""
    sums = np.zeros((index.max() + 1, values.shape[1]))
    np.add.at(sums, index, values)
    return sums
