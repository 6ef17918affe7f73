# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Metrics of stored predictions on resampled images."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence

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
    weighted_mean,
)
from .rows import Row, Training
from .runs import Run

# pelvis and thorax are not in MPII's mean
MPII_LEFT_OUT = (6, 7)
FINE = 0.1  # threshold of MPII's PCK@0.1


def resampled_values(metrics: Sequence[BaseMetric]) -> Dict[str, BaseMetric]:
    """The values that can be computed on resampled images, by MMPose's names, and the metric that
    has each."""
    found = {}
    for metric in metrics:
        names = [*distance_names(metric)]
        if type(metric) is CocoMetric:  # not whole bodies', with an AP of each part
            names = [] if metric.coco is None else ['AP']
        elif names and isinstance(metric, MpiiPCKAccuracy):
            names.append('PCK@0.1')
        found.update({result_key(metric, name): metric for name in names})
    return found


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
    if path.is_file():
        return np.load(path)
    if key in RELIABILITY:
        values = _reliability(training, key)
    else:
        metric = resampled_values(run.build_metrics()).get(key)
        if metric is None:
            return None
        if isinstance(metric, CocoMetric):
            with silenced():
                matches = match_predictions(training, metric)
            values = average_precision(matches, resample(len(matches[0].annotated)))
        else:
            values = _distances(training, metric, key)
    with whole_file(path) as unfinished:
        np.save(unfinished, values)
    return values


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


def _distances(training: Training, metric: BaseMetric, key: str) -> np.ndarray:
    """PCK, NME or EPE."""
    is_fine = short_name(key) == 'PCK@0.1'
    value = result_key(metric, 'PCK') if is_fine else key
    distances, img_ids = training.load(f'distances/{value}', 'img_ids')
    of_mpii = isinstance(metric, MpiiPCKAccuracy)
    if of_mpii:
        distances = np.delete(distances, MPII_LEFT_OUT, axis=1)
    values = np.nan_to_num(distances)
    if isinstance(metric, PCKAccuracy):
        values = distances < (FINE if is_fine else metric.thr)  # NaN is not
    images, index = np.unique(img_ids, return_inverse=True)
    sums = [np.zeros((len(images), values.shape[1])) for _ in range(2)]
    for of_image, of_person in zip(sums, (values, ~np.isnan(distances))):
        np.add.at(of_image, index, of_person)
    by_kind = isinstance(metric, PCKAccuracy) and not of_mpii
    return (100 if of_mpii else 1) * weighted_mean(*sums, resample(len(images)), by_kind)


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
