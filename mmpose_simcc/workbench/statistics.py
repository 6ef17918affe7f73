# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""How certain a metric is, and whether two models differ.

Another experiment would have other test images and other trainings. What the images contribute
is measured by the bootstrap: a resample draws as many images as there are, with replacement, and
gives each image a weight, the number of times it was drawn. All rows of a table meet the same
resamples, so that their differences are paired. What the trainings contribute is their spread.

:func:`average_precision` and :func:`weighted_mean` are metrics of weighted images,
:class:`Measured` is a metric of a row, and :func:`noise_of` and :func:`noise_of_difference` say
how far it, or a difference of two, may be from that of other images and trainings.
:func:`paired_gain` compares losses of the same keypoints by one model.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, t
from xtcocotools.cocoeval import COCOeval

REPEATS = 1000
SEED = 0
ERROR_RATE = 0.05  # of intervals and verdicts
RECALLS = np.linspace(0, 1, 101)  # COCO's


def resample(images: int, repeats: int = REPEATS) -> np.ndarray:
    """How often each image is drawn, shape (repeats, images)."""
    even = np.full(images, 1 / images)
    return np.random.default_rng(SEED).multinomial(images, even, size=repeats)


class CocoMatches(NamedTuple):
    """How the detections of a category meet its annotations, at T thresholds of OKS.

    An image's matches do not depend on other images, so that they are found once.

    Attributes:
        images (np.ndarray): The index of the image of each detection, by falling score, shape
            (D,).
        correct (np.ndarray): Whether it is a true positive, shape (T, D).
        wrong (np.ndarray): Whether it is a false positive, shape (T, D). One that is neither met
            an annotation that is to be ignored.
        annotated (np.ndarray): How many people there are to find in each image, shape (I,).
    """

    images: np.ndarray
    correct: np.ndarray
    wrong: np.ndarray
    annotated: np.ndarray


def match_coco(evaluation: COCOeval) -> List[CocoMatches]:
    """The matches of people of all sizes, for each category.

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

    Counting an image several times at once gives what COCO gives for copies of it: between the
    copies of a detection recall reaches no level that it does not reach at the last one with a
    better precision.

    Args:
        categories (sequence[CocoMatches]): The matches of each category. A category of which the
            weighted images show nobody does not count.
        weights (np.ndarray): How often each image counts, whole numbers, shape (R, I).

    Returns:
        np.ndarray: In [0, 1], NaN without annotations, shape (R,).
    """
    values = np.array([_category_precision(matches, weights) for matches in categories])
    counts = ~np.isnan(values)
    with np.errstate(invalid='ignore'):
        return np.where(counts, values, 0).sum(0) / counts.sum(0)


def _category_precision(matches: CocoMatches, weights: np.ndarray) -> np.ndarray:
    """AP of a category, (R,), NaN without people.

    Precision is looked up at true positives alone: there recall reaches its levels, and between
    two of them precision only falls.
    """
    thresholds = []
    for correct, wrong in zip(matches.correct, matches.wrong):
        found, ignored = np.flatnonzero(correct), np.flatnonzero(~(correct | wrong))
        ignored_before = np.searchsorted(ignored, found)
        thresholds.append((found, ignored, ignored_before))
    precisions = np.full(len(weights), np.nan)
    for index, weight in enumerate(weights):
        people = weight @ matches.annotated
        if people == 0:
            continue
        times = weight[matches.images]
        passed = np.cumsum(times)
        areas = []
        for found, ignored, ignored_before in thresholds:
            counted = passed[found] - np.append(0, np.cumsum(times[ignored]))[ignored_before]
            correct = np.cumsum(times[found])
            precision = correct / (counted + np.spacing(1))
            precision = np.maximum.accumulate(precision[::-1])[::-1]
            places = np.searchsorted(correct / people, RECALLS, side='left')
            areas.append(precision[places[places < len(found)]].sum() / len(RECALLS))
        precisions[index] = np.mean(areas)
    return precisions


def weighted_mean(
    sums: np.ndarray, labelled: np.ndarray, weights: np.ndarray, by_kind: bool
) -> np.ndarray:
    """The mean over the keypoints of weighted images, of what is right (PCK) or of distances.

    Args:
        sums (np.ndarray): Over the keypoints of each image and kind, shape (I, K).
        labelled (np.ndarray): How many there are, shape (I, K).
        weights (np.ndarray): How often each image counts, shape (R, I).
        by_kind (bool): Whether each kind of keypoint has its mean first; else all count alike.

    Returns:
        np.ndarray: Shape (R,).
    """
    sums, labelled = weights @ sums, weights @ labelled
    if not by_kind:
        return sums.sum(1) / labelled.sum(1)
    with np.errstate(invalid='ignore'):
        return np.nanmean(sums / labelled, axis=1)


class Measured(NamedTuple):
    """A metric of a row of a table.

    Attributes:
        values (np.ndarray): That of each of T trainings, shape (..., T).
        samples (np.ndarray): The same on R resamples of the images, shape (..., T, R).
        trainings (tuple): What identifies the trainings. Rows that share them differ by their
            decoder alone.
        images (int): The number of test images.
        is_bound (bool): Whether ``samples`` are instead upper bounds of how far the metric of a
            resample is from the value, as for a metric that resampling inflates (ECE).
    """

    values: np.ndarray
    samples: np.ndarray
    trainings: Tuple[str, ...]
    images: int
    is_bound: bool = False


class Noise(NamedTuple):
    """The variance of an estimate in two independent parts, and the degrees of freedom with
    which each of them is known."""

    images: np.ndarray
    images_dof: float
    trainings: np.ndarray
    trainings_dof: np.ndarray

    def half_width(self, error_rate: float = ERROR_RATE) -> np.ndarray:
        r"""Half of a confidence interval around the estimate,

        .. math:: h^2 = t_{I - 1}^2 s_I^2 + t_\nu^2 s_T^2

        with the variances of both parts and quantiles of Student's t. This is exact where one
        part outweighs the other, and holds the truth somewhat too often between (Howe,
        Approximate Confidence Limits on the Mean of X + Y, 1974). One t of Satterthwaite's
        degrees of freedom for the sum would hold it too rarely, 87% in place of 95 with two
        trainings: where by chance the two are alike, it takes many degrees of freedom.
        """
        quantile = error_rate / 2
        return np.sqrt(
            t.isf(quantile, self.images_dof) ** 2 * self.images
            + t.isf(quantile, self.trainings_dof) ** 2 * self.trainings
        )

    def p_value(self, difference: float) -> float:
        """The error rate at which the interval of a difference ends at 0."""
        if difference == 0:
            return 1.0

        def reaches(log_rate: float) -> float:
            return float(self.half_width(np.exp(log_rate)) - abs(difference))

        lowest = -50.0
        return 0.0 if reaches(lowest) < 0 else float(np.exp(brentq(reaches, lowest, 0.0)))


def confidence_interval(
    value: float, noise: Noise, lowest: float = -np.inf, highest: float = np.inf
) -> Tuple[float, float]:
    """The 95% interval around a value, cut where the metric ends."""
    half = float(noise.half_width())
    return max(value - half, min(value, lowest)), min(value + half, max(value, highest))


def noise_of(row: Measured) -> Noise:
    """The noise of the mean over trainings."""
    return Noise(_images(row), max(row.images - 1, 1), *_trainings([row]))


def noise_of_difference(row: Measured, other: Measured) -> Noise:
    """The noise of the difference of two means over trainings, on the same images. Rows of the
    same trainings are paired there as well."""
    if row.trainings != other.trainings:
        trainings = _trainings([row, other])
    else:
        paired = row._replace(values=row.values - other.values)
        if not row.is_bound:
            return noise_of(paired._replace(samples=row.samples - other.samples))
        trainings = _trainings([paired])
    return Noise(_images(row, other), max(row.images - 1, 1), *trainings)


def _images(row: Measured, other: Optional[Measured] = None) -> np.ndarray:
    """The variance that the images give a mean over trainings, or a difference of two: of what
    the trainings have in common. What an image does to one of them is in the trainings' spread."""
    unbiased = row.images / max(row.images - 1, 1)  # a resample varies by (I - 1) / I
    means = row.samples.mean(-2)
    if row.is_bound:
        means = means if other is None else means + other.samples.mean(-2)
        bound = np.quantile(means, 1 - ERROR_RATE, axis=-1)
        return unbiased * (bound / norm.isf(ERROR_RATE / 2)) ** 2
    variance = _shared_variance(row.samples)
    if other is not None:
        means -= means.mean(-1, keepdims=True)
        covariance = (means * other.samples.mean(-2)).mean(-1)
        variance = variance + _shared_variance(other.samples) - 2 * covariance
    return unbiased * np.maximum(variance, 0)


def _shared_variance(samples: np.ndarray) -> np.ndarray:
    """The mean covariance of two trainings over the resamples; the variance of a single one."""
    T = samples.shape[-2]
    if T == 1:
        return samples[..., 0, :].var(-1)
    return (samples.sum(-2).var(-1) - samples.var(-1).sum(-1)) / (T * (T - 1))


def _trainings(rows: Sequence[Measured]) -> Tuple[np.ndarray, np.ndarray]:
    """The variance that trainings give a mean, or a difference of two, and its degrees of freedom
    by Welch (The generalization of 'Student's' problem, 1947). A single training tells none."""
    parts, dofs = [np.zeros(rows[0].values.shape[:-1])], [1]
    for row in rows:
        T = row.values.shape[-1]
        if T > 1:
            parts.append(row.values.var(-1, ddof=1) / T)
            dofs.append(T - 1)
    variance = np.sum(parts, 0)
    squares = sum(part**2 / dof for part, dof in zip(parts, dofs))
    with np.errstate(invalid='ignore'):  # trainings that are alike
        return variance, np.where(squares > 0, variance**2 / squares, 1.0)


class Gain(NamedTuple):
    """By how much a mean loss over keypoints is smaller.

    Attributes:
        value (float): The difference.
        low (float): Of its 95% interval.
        high (float): Of its 95% interval.
        p_value (float): Of the hypothesis that there is none.
    """

    value: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return f'{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]'


def paired_gain(loss: np.ndarray, smaller: np.ndarray, img_ids: np.ndarray) -> Gain:
    """Compare losses of the same keypoints, paired by picture, since people of a picture are
    alike: the ratio of two means over pictures, with its variance to first order (Cochran,
    Sampling Techniques, 1977, Section 2.11) and Student's t.

    Args:
        loss (np.ndarray): Shape (N, K), NaN where there is no truth.
        smaller (np.ndarray): That which ought to be smaller.
        img_ids (np.ndarray): The image of each person, shape (N,).
    """
    images, image_of = np.unique(img_ids, return_inverse=True)
    known = ~np.isnan(loss)
    difference = np.bincount(image_of, np.nansum(loss - smaller, 1))
    counts = np.bincount(image_of, known.sum(1))
    value = difference.sum() / max(counts.sum(), 1)
    n = len(images)
    spread = np.sqrt(((difference - value * counts) ** 2).sum() * n / max(n - 1, 1))
    error = spread / max(counts.sum(), 1)
    if error == 0:
        return Gain(value, value, value, float(value == 0))
    half = t.isf(0.025, n - 1) * error
    return Gain(value, value - half, value + half, 2 * t.sf(abs(value) / error, n - 1))


def adjust(p_values: Sequence[float], comparisons: int) -> List[float]:
    """Holm's p-values of a family of comparisons (A simple sequentially rejective multiple test
    procedure, 1979): the i-th smallest of n is multiplied by n - i + 1, and none is below a
    smaller one's.

    Args:
        p_values (sequence[float]): Of the comparisons that are shown.
        comparisons (int): All that could have been.

    Returns:
        list[float]: In the same order.

    Example:
        >>> adjust([0.04, 0.01], 2)
        [0.04, 0.02]
    """
    order = np.argsort(p_values, kind='stable')
    larger = (comparisons - np.arange(len(order))) * np.take(p_values, order)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(larger), 1)
    return adjusted.tolist()
