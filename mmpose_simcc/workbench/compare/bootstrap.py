# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Uncertainty of metrics: bootstrap over images.

A resample draws as many images as there are, with replacement. All rows meet
the same resamples, so that their differences are paired. Predictions are
matched to annotations once, since an image's matches do not depend on the
others; a resample only weights the images.
"""

from pathlib import Path
from typing import NamedTuple, Sequence, Tuple

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmpose.evaluation.metrics import CocoMetric, MpiiPCKAccuracy
from mmpose.registry import METRICS
from xtcocotools.cocoeval import COCOeval

from ...utils.console import quiet
from ...utils.files import whole_file
from .runs import Run
from .tables import Row

REPEATS = 1000
SEED = 0
# pelvis and thorax are not in MPII's mean
MPII_LEFT_OUT = (6, 7)


class CocoMatches(NamedTuple):
    """How detections meet annotations at T OKS thresholds.

    Attributes:
        images (np.ndarray): For each detection, by falling score, the index
            of its image, shape (D,).
        correct (np.ndarray): Whether it is a true positive, shape (T, D).
        wrong (np.ndarray): Whether it is a false positive, shape (T, D).
            Neither: it met an annotation that is to be ignored.
        annotated (np.ndarray): For each image, the people to find, shape
            (I,).
    """

    images: np.ndarray
    correct: np.ndarray
    wrong: np.ndarray
    annotated: np.ndarray


RECALLS = np.linspace(0, 1, 101)  # COCO's


def match_coco(evaluation: COCOeval) -> CocoMatches:
    """Collect the matches of people of all sizes.

    Args:
        evaluation (COCOeval): After ``evaluate()``.
    """
    images = evaluation.params.imgIds
    found = [(i, e) for i, e in enumerate(evaluation.evalImgs[: len(images)]) if e is not None]
    annotated = np.zeros(len(images))
    for i, e in found:
        annotated[i] = np.count_nonzero(np.asarray(e['gtIgnore']) == 0)
    scores = np.concatenate([e['dtScores'] for _, e in found])
    order = np.argsort(-scores, kind='mergesort')
    index = np.concatenate([[i] * len(e['dtScores']) for i, e in found])
    matches = np.concatenate([e['dtMatches'] for _, e in found], axis=1)
    ignored = np.concatenate([e['dtIgnore'] for _, e in found], axis=1).astype(bool)
    # xtcocotools marks a detection without a match by -1
    correct = (matches >= 0) & ~ignored
    wrong = (matches < 0) & ~ignored
    return CocoMatches(index[order].astype(int), correct[:, order], wrong[:, order], annotated)


def average_precision(matches: CocoMatches, weights: np.ndarray) -> float:
    """COCO's AP, the mean over the thresholds, of weighted images.

    Counting an image several times at once gives what COCO gives for copies
    of it: between the copies of a detection recall does not reach a level
    that it does not reach at the last one with a better precision.

    Args:
        matches (CocoMatches): The matches.
        weights (np.ndarray): How often each image counts, shape (I,).

    Returns:
        float: In [0, 1]; NaN without annotations.
    """
    people = weights @ matches.annotated
    if people == 0:
        return float('nan')
    times = weights[matches.images]
    correct = np.cumsum(matches.correct * times, axis=1, dtype=float)
    wrong = np.cumsum(matches.wrong * times, axis=1, dtype=float)
    precision = correct / (correct + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for recall, best in zip(correct / people, precision):
        places = np.searchsorted(recall, RECALLS, side='left')
        total += best[places[places < len(best)]].sum()
    return total / (len(precision) * len(RECALLS))


def weighted_pck(
    hits: np.ndarray, labelled: np.ndarray, weights: np.ndarray, pooled: bool
) -> np.ndarray:
    """PCK of weighted images.

    Args:
        hits (np.ndarray): Correct keypoints by image and kind, shape (I, K).
        labelled (np.ndarray): Labelled ones, shape (I, K).
        weights (np.ndarray): How often each image counts, shape (R, I).
        pooled (bool): Whether all keypoints count alike (MPII) or first each
            kind has its mean.

    Returns:
        np.ndarray: In [0, 1], shape (R,).
    """
    hits, labelled = weights @ hits, weights @ labelled
    if pooled:
        return hits.sum(1) / labelled.sum(1)
    with np.errstate(invalid='ignore'):
        return np.nanmean(hits / labelled, axis=1)


def resample(images: int, repeats: int = REPEATS) -> np.ndarray:
    """How often each image is drawn.

    Returns:
        np.ndarray: Shape (repeats, images).
    """
    return np.random.default_rng(SEED).multinomial(
        images, np.full(images, 1 / images), size=repeats
    )


def bootstrap(row: Row, run: Run, metric: str) -> np.ndarray:
    """A metric on resampled images; kept beside the row's predictions.

    Args:
        row (Row): The row.
        run (Run): Its run.
        metric (str): ``'coco/AP'``, ``'crowdpose/AP'``, ``'PCK'``,
            ``'PCKh'`` or ``'PCK@0.1'``.

    Returns:
        np.ndarray: Shape (REPEATS,), in the metric's own unit. Rows of the
        same test data have the same resamples.
    """
    path = Path(f'{row.predictions}.{metric.replace("/", "-")}.npy')
    if not path.is_file():
        metrics = run.cfg.test_evaluator
        metrics = metrics if isinstance(metrics, list) else [metrics]
        init_default_scope(run.cfg.get('default_scope', 'mmpose'))
        with quiet():
            built = [METRICS.build(cfg) for cfg in metrics]
            if metric.endswith('/AP'):
                coco = next(m for m in built if isinstance(m, CocoMetric))
                samples = _bootstrap_ap(row, run, coco)
            else:
                pck = next(m for m in built if hasattr(m, 'norm_item'))
                samples = _bootstrap_pck(row, pck, metric)
        with whole_file(path) as unfinished:
            np.save(unfinished, samples)
    return np.load(path)


def _bootstrap_ap(row: Row, run: Run, metric: CocoMetric) -> np.ndarray:
    matches = match_row(row, run, metric)
    weights = resample(len(matches.annotated))
    return np.array([average_precision(matches, w) for w in weights])


def match_row(row: Row, run: Run, metric: CocoMetric) -> CocoMatches:
    """Match a row's stored predictions as the metric does."""
    predictions = metric.coco.loadRes(f'{row.predictions}.keypoints.json')
    evaluation = COCOeval(
        metric.coco, predictions, metric.iou_type, np.array(_sigmas(run)), metric.use_area
    )
    evaluation.params.useSegm = None
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.evaluate()
    return match_coco(evaluation)


def _sigmas(run: Run) -> Sequence[float]:
    from mmpose.registry import DATASETS

    cfg = run.cfg.test_dataloader.dataset.copy()
    cfg.update(lazy_init=True, pipeline=[])
    dataset: BaseDataset = DATASETS.build(cfg)
    return dataset.metainfo['sigmas']


def _bootstrap_pck(row: Row, metric, name: str) -> np.ndarray:
    with np.load(f'{row.predictions}.npz') as stored:
        distances, img_ids = stored['distances'], stored['img_ids']
    threshold = 0.1 if name == 'PCK@0.1' else metric.thr
    pooled = isinstance(metric, MpiiPCKAccuracy)
    if pooled:
        distances = np.delete(distances, MPII_LEFT_OUT, axis=1)
    images, index = np.unique(img_ids, return_inverse=True)
    hits = np.zeros((len(images), distances.shape[1]))
    labelled = np.zeros_like(hits)
    np.add.at(hits, index, distances < threshold)  # NaN is below nothing
    np.add.at(labelled, index, ~np.isnan(distances))
    pck = weighted_pck(hits, labelled, resample(len(images)), pooled)
    return 100 * pck if pooled else pck


def interval(samples: np.ndarray) -> Tuple[float, float]:
    """The middle 95% of resampled values."""
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return float(low), float(high)
