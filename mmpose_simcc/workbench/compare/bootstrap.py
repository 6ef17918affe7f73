# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Uncertainty of metrics: bootstrap over images and trainings.

A resample draws as many images as there are, with replacement. All rows meet
the same resamples, so that their differences are paired. Predictions are
matched to annotations once, since an image's matches do not depend on the
others; a resample only weights the images. Of a model that was trained several
times it also draws as many trainings, the same for all its decoders.
"""

import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmpose.evaluation.metrics import CocoMetric, MpiiPCKAccuracy, PCKAccuracy
from mmpose.registry import DATASETS
from xtcocotools.cocoeval import COCOeval

from ...utils.console import quiet
from ...utils.files import whole_file
from ..metrics import RELIABILITY, short_name
from ..reliability import BINS, Ranking, bin_sums, equal_mass_bins, with_truth
from .evaluation import build_metrics, distance_names, result_key
from .runs import Run
from .tables import Row, Training

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


def match_coco(evaluation: COCOeval) -> List[CocoMatches]:
    """Collect the matches of people of all sizes, for each category.

    Args:
        evaluation (COCOeval): After ``evaluate()``.
    """
    params = evaluation.params
    images, step = len(params.imgIds), len(params.imgIds) * len(params.areaRng)
    starts = range(0, len(evaluation.evalImgs), step)
    return [_match_category(evaluation.evalImgs[start : start + images]) for start in starts]


def _match_category(by_image: List[Optional[dict]]) -> CocoMatches:
    found = [(i, e) for i, e in enumerate(by_image) if e is not None]
    annotated = np.zeros(len(by_image))
    for i, e in found:
        annotated[i] = np.count_nonzero(np.asarray(e['gtIgnore']) == 0)
    if not found:
        nobody = np.zeros((1, 0), bool)
        return CocoMatches(np.zeros(0, int), nobody, nobody, annotated)
    scores = np.concatenate([e['dtScores'] for _, e in found])
    order = np.argsort(-scores, kind='mergesort')
    index = np.concatenate([[i] * len(e['dtScores']) for i, e in found])
    matches = np.concatenate([e['dtMatches'] for _, e in found], axis=1)
    ignored = np.concatenate([e['dtIgnore'] for _, e in found], axis=1).astype(bool)
    # xtcocotools marks a detection without a match by -1
    correct = (matches >= 0) & ~ignored
    wrong = (matches < 0) & ~ignored
    return CocoMatches(index[order].astype(int), correct[:, order], wrong[:, order], annotated)


def average_precision(categories: Sequence[CocoMatches], weights: np.ndarray) -> np.ndarray:
    """COCO's AP, the mean over thresholds and categories, of weighted images.

    Counting an image several times at once gives what COCO gives for copies
    of it: between the copies of a detection recall does not reach a level
    that it does not reach at the last one with a better precision.

    Args:
        categories (sequence[CocoMatches]): The matches of each category; one
            of which the weighted images show nobody does not count.
        weights (np.ndarray): How often each image counts, whole numbers,
            shape (R, I).

    Returns:
        np.ndarray: In [0, 1], NaN without annotations, shape (R,).
    """
    values = np.array([_category_precision(matches, weights) for matches in categories])
    counts = ~np.isnan(values)
    with np.errstate(invalid='ignore'):
        return np.where(counts, values, 0).sum(0) / counts.sum(0)


def _category_precision(matches: CocoMatches, weights: np.ndarray) -> np.ndarray:
    """AP of a category, (R,), NaN without people.

    Precision is looked up at true positives alone: recall reaches its levels
    there, and between two of them precision only falls.
    """
    thresholds = []
    for correct, wrong in zip(matches.correct, matches.wrong):
        found, neither = np.flatnonzero(correct), np.flatnonzero(~(correct | wrong))
        # of each true positive, how many before it are neither
        thresholds.append((found, neither, np.searchsorted(neither, found)))
    precisions = np.full(len(weights), np.nan)
    for index, weight in enumerate(weights):
        people = weight @ matches.annotated
        if people > 0:
            times = weight[matches.images]
            passed = np.cumsum(times)
            areas = [_area(times, passed, people, *threshold) for threshold in thresholds]
            precisions[index] = np.mean(areas)
    return precisions


def _area(
    times: np.ndarray,
    passed: np.ndarray,
    people: float,
    found: np.ndarray,
    neither: np.ndarray,
    before: np.ndarray,
) -> float:
    """Mean precision over COCO's levels of recall, at one threshold.

    Args:
        times (np.ndarray): How often each detection counts, shape (D,).
        passed (np.ndarray): How many there are up to it, shape (D,).
        people (float): The people to find.
        found (np.ndarray): Places of true positives, shape (C,).
        neither (np.ndarray): Places of those that met what is ignored.
        before (np.ndarray): How many of these lie before each true positive,
            shape (C,).
    """
    ignored = np.append(0, np.cumsum(times[neither]))[before]
    correct = np.cumsum(times[found])
    precision = correct / (passed[found] - ignored + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(correct / people, RECALLS, side='left')
    return precision[places[places < len(found)]].sum() / len(RECALLS)


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


def resampled_names(metric: BaseMetric) -> List[str]:
    """The values of a metric that can be computed on resampled images."""
    if type(metric) is CocoMetric:  # not whole bodies', with an AP of each part
        return [] if metric.coco is None else ['AP']
    names = [*distance_names(metric)]
    return [*names, 'PCK@0.1'] if names and isinstance(metric, MpiiPCKAccuracy) else names


def find_source(run: Run, key: str) -> Optional[BaseMetric]:
    """The metric of a run's config whose value can be computed on resampled
    images; None: there is none.

    Args:
        run (Run): The run.
        key (str): MMPose's name of the value.
    """
    for metric in build_metrics(run):
        if key in [result_key(metric, name) for name in resampled_names(metric)]:
            return metric
    return None


def bootstrap(row: Row, run: Run, key: str) -> Optional[np.ndarray]:
    """A metric of each training on resampled images; kept beside the
    predictions.

    Args:
        row (Row): The row.
        run (Run): Its run.
        key (str): MMPose's name of the value: ``'coco/AP'``, ``'PCK'``,
            ``'PCKh'``, ``'PCK@0.1'``, ``'NME'``, ``'EPE'``, ``'ECE'``,
            ``'AUROC'``.

    Returns:
        np.ndarray: Shape (trainings, REPEATS), in the metric's own unit; None
        where there is no way. Rows of the same test data have the same
        resamples.
    """
    metric = None
    samples = []
    for training in row.trainings:
        path = Path(f'{training.predictions}.{key.replace("/", "-")}.npy')
        if not path.is_file():
            if key in RELIABILITY:
                values = _bootstrap_reliability(training, key)
            else:
                metric = metric or find_source(run, key)
                if metric is None:
                    return None
                if isinstance(metric, CocoMetric):
                    values = _bootstrap_ap(training, run, metric)
                else:
                    values = _bootstrap_distances(training, metric, key)
            with whole_file(path) as unfinished:
                np.save(unfinished, values)
        samples.append(np.load(path))
    return np.stack(samples)


def draw_trainings(rows: Sequence[Row]) -> List[np.ndarray]:
    """Which trainings each resample draws: rows of the same trainings, which
    differ in their decoder, have the same.

    Returns:
        list[np.ndarray]: For each row, indices of shape (REPEATS, trainings).
    """
    generator = np.random.default_rng(SEED)
    drawn: Dict[Tuple[str, ...], np.ndarray] = {}
    for row in rows:
        checkpoints = tuple(training.checkpoint for training in row.trainings)
        if checkpoints not in drawn:
            T = len(checkpoints)
            drawn[checkpoints] = generator.integers(T, size=(REPEATS, T))
    return [drawn[tuple(training.checkpoint for training in row.trainings)] for row in rows]


def mean_of_drawn(samples: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The mean over trainings, on resampled images and trainings.

    Of T trainings drawn with replacement the mean varies by (T - 1) / T of
    what it varies by for new trainings; its deviations are scaled back
    (Davison and Hinkley, Bootstrap Methods, 1997, Section 3.8).

    Args:
        samples (np.ndarray): A metric of each training on resampled images,
            shape (T, R).
        drawn (np.ndarray): Indices of the trainings, shape (R, T).

    Returns:
        np.ndarray: Shape (R,).
    """
    T = len(samples)
    mean = samples.mean(0)
    if T == 1:
        return mean
    deviation = np.take_along_axis(samples.T, drawn, 1).mean(1) - mean
    return mean + np.sqrt(T / (T - 1)) * deviation


def adjust(p_values: Sequence[float], comparisons: int) -> List[float]:
    """Holm's p-values of a family of comparisons (Holm, A simple sequentially
    rejective multiple test procedure, 1979): the i-th smallest of n is
    multiplied by n - i + 1, and none is below a smaller one's.

    Args:
        p_values (sequence[float]): Of the comparisons that are shown.
        comparisons (int): All that could have been.

    Returns:
        list[float]: In the same order.

    Example:
        >>> adjust([0.04, 0.01], 2)
        [0.04, 0.02]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for i, place in enumerate(np.argsort(p_values, kind='stable')):
        highest = max(highest, min(1.0, (comparisons - i) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def p_value(difference: float, samples: np.ndarray) -> float:
    """Two-sided p-value of a difference, of which the resamples give the
    standard error."""
    error = float(np.nanstd(samples))
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / error / math.sqrt(2))


def _bootstrap_ap(training: Training, run: Run, metric: CocoMetric) -> np.ndarray:
    with quiet():
        categories = match_predictions(training, run, metric)
    return average_precision(categories, resample(len(categories[0].annotated)))


def match_predictions(training: Training, run: Run, metric: CocoMetric) -> List[CocoMatches]:
    """Match a training's stored predictions as the metric does."""
    predictions = metric.coco.loadRes(f'{training.predictions}.keypoints.json')
    evaluation = COCOeval(
        metric.coco, predictions, metric.iou_type, np.array(_sigmas(run)), metric.use_area
    )
    evaluation.params.useSegm = None
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.evaluate()
    return match_coco(evaluation)


def _sigmas(run: Run) -> Sequence[float]:
    cfg = run.cfg.test_dataloader.dataset.copy()
    cfg.update(lazy_init=True, pipeline=[])
    dataset: BaseDataset = DATASETS.build(cfg)
    return dataset.metainfo['sigmas']


def _bootstrap_distances(training: Training, metric: BaseMetric, key: str) -> np.ndarray:
    is_fine = short_name(key) == 'PCK@0.1'
    with np.load(f'{training.predictions}.npz') as stored:
        distances = stored[f'distances/{result_key(metric, "PCK") if is_fine else key}']
        img_ids = stored['img_ids']
    if isinstance(metric, MpiiPCKAccuracy):
        distances = np.delete(distances, MPII_LEFT_OUT, axis=1)
    images, index = np.unique(img_ids, return_inverse=True)
    weights = resample(len(images))
    labelled = _sum_by_image(index, ~np.isnan(distances))
    if not isinstance(metric, PCKAccuracy):  # a mean distance
        return (weights @ _sum_by_image(index, np.nan_to_num(distances)).sum(1)) / (
            weights @ labelled.sum(1)
        )
    hits = _sum_by_image(index, distances < (0.1 if is_fine else metric.thr))  # NaN is not
    if isinstance(metric, MpiiPCKAccuracy):
        return 100 * weighted_pck(hits, labelled, weights, pooled=True)
    return weighted_pck(hits, labelled, weights, pooled=False)


def _bootstrap_reliability(training: Training, key: str) -> np.ndarray:
    """ECE over the bins of all images, or AUROC."""
    with np.load(f'{training.predictions}.npz') as stored:
        scores, similarity, known = with_truth(stored['scores'], stored['similarity'])
        images, index = np.unique(stored['img_ids'], return_inverse=True)
    index = index[known.nonzero()[0]]  # the image of each keypoint
    weights = resample(len(images))
    if key == 'AUROC':
        ranking = Ranking.of(scores, similarity)
        return np.array([ranking.auroc(w[index]) for w in weights])
    cells = index * BINS + equal_mass_bins(scores)
    counts, gaps = bin_sums(cells, len(images) * BINS, scores - similarity).reshape(2, -1, BINS)
    return np.abs(weights @ gaps).sum(1) / (weights @ counts).sum(1)


def _sum_by_image(index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of people (N, K) summed over those of an image, (I, K)."""
    sums = np.zeros((index.max() + 1, values.shape[1]))
    np.add.at(sums, index, values)
    return sums


def interval(samples: np.ndarray) -> Tuple[float, float]:
    """The middle 95% of resampled values."""
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return float(low), float(high)
