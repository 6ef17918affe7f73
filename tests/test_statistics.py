# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Metrics of resampled images against COCOeval and MMPose; intervals and verdicts by simulation."""

import contextlib
import io

import numpy as np
import pytest
from mmpose.evaluation.functional import keypoint_pck_accuracy
from scipy import stats
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from mmpose_simcc.workbench.statistics import (
    CocoMatches,
    Measured,
    Noise,
    adjust,
    average_precision,
    confidence_interval,
    match_coco,
    noise_of,
    noise_of_difference,
    resample,
    weighted_mean,
)

SIGMAS = np.full(17, 0.08)


def people(rng, images):
    """Annotations and, for most of them, detections of varied quality, some
    of nobody; some annotations are to be ignored."""
    annotations, detections = [], []
    for image in range(images):
        for _ in range(rng.integers(0, 4)):
            keypoints = rng.uniform(0, 200, (17, 3))
            keypoints[:, 2] = rng.integers(0, 3, 17) * (rng.random() < 0.9)
            annotations.append(
                dict(
                    image_id=image,
                    category_id=1,
                    iscrowd=0,
                    bbox=[0, 0, 200, 200],
                    area=float(rng.uniform(1e3, 4e4)),
                    num_keypoints=int((keypoints[:, 2] > 0).sum()),
                    keypoints=keypoints.ravel().tolist(),
                )
            )
            if rng.random() < 0.9:
                noise = rng.normal(0, rng.uniform(1, 15), (17, 2))
                keypoints[:, :2] += noise
                detections.append((image, keypoints))
        if rng.random() < 0.3:
            detections.append((image, rng.uniform(0, 200, (17, 3))))
    detections = [
        dict(
            image_id=image,
            category_id=1,
            score=float(rng.random()),
            keypoints=keypoints.ravel().tolist(),
        )
        for image, keypoints in detections
    ]
    return annotations, detections


def coco_eval(annotations, detections, draw, kind='keypoints'):
    """COCOeval on a set in which image ``draw[i]`` has become image i."""

    def copies(items):
        return [
            dict(item, image_id=i, id=1 + n)
            for n, (i, item) in enumerate(
                (i, item)
                for i, image in enumerate(draw)
                for item in items
                if item['image_id'] == image
            )
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(
            images=[
                dict(id=i, width=200, height=200, crowdIndex=i % 10 / 10) for i in range(len(draw))
            ],
            categories=[dict(id=1, name='person')],
            annotations=copies(annotations),
        )
        truth.createIndex()
        found = truth.loadRes(copies(detections))
        evaluation = COCOeval(truth, found, kind, SIGMAS, kind == 'keypoints')
        evaluation.params.useSegm = None
        evaluation.evaluate()
        evaluation.accumulate()
        if kind == 'keypoints':  # that of crowds reads files again
            evaluation.summarize()
    return evaluation


class TestAveragePrecision:
    @pytest.fixture(scope='class')
    def data(self):
        return people(np.random.default_rng(0), 40)

    @pytest.mark.parametrize('kind', ['keypoints', 'keypoints_crowd'])
    def test_equals_coco(self, data, kind):
        evaluation = coco_eval(*data, range(40), kind)
        expected = evaluation.eval['precision'][:, :, 0, 0, -1].mean()
        assert 0.1 < expected < 0.9
        ap = average_precision(match_coco(evaluation), np.ones((1, 40), int))[0]
        assert ap == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize('seed', range(8))
    def test_equals_coco_on_resampled_images(self, data, seed):
        draw = np.random.default_rng(seed).integers(0, 40, 40)
        # copies of an image stay neighbours, as one image's detections do
        draw.sort()
        brute_force = coco_eval(*data, draw).stats[0]
        matches = match_coco(coco_eval(*data, range(40)))
        weights = np.bincount(draw, minlength=40)[None]
        assert average_precision(matches, weights)[0] == pytest.approx(brute_force, abs=1e-12)

    def test_without_people(self, data):
        matches = match_coco(coco_eval(*data, range(40)))
        assert np.isnan(average_precision(matches, np.zeros((1, 40), int))).all()

    @pytest.mark.parametrize('seed', range(4))
    def test_equals_every_detection_by_itself(self, seed):
        """Random matches, ignored ones and images without people among them."""
        rng = np.random.default_rng(seed)
        categories = [random_matches(rng, 30, number) for number in (0, 1, 60, 200)]
        weights = resample(30, 20)
        values = average_precision(categories, weights)
        for weight, value in zip(weights, values):
            expected = [plain_precision(matches, weight) for matches in categories]
            expected = np.mean([ap for ap in expected if ap is not None])
            assert value == pytest.approx(expected, abs=1e-12)


def random_matches(rng, images, detections):
    kind = rng.choice(['correct', 'wrong', 'neither'], (10, detections), p=[0.4, 0.5, 0.1])
    annotated = rng.integers(0, 2, images) * max(1, detections // images)
    index = rng.integers(0, images, detections)
    return CocoMatches(index, kind == 'correct', kind == 'wrong', annotated)


def plain_precision(matches, weight):
    """AP as COCO defines it, detection by detection; None without people."""
    people = weight @ matches.annotated
    if people == 0:
        return None
    levels = []
    for correct, wrong in zip(matches.correct, matches.wrong):
        found, missed, curve = 0, 0, []
        for image, is_correct, is_wrong in zip(matches.images, correct, wrong):
            found += weight[image] * is_correct
            missed += weight[image] * is_wrong
            curve.append((found / people, found / (found + missed + np.spacing(1))))
        for level in np.linspace(0, 1, 101):
            levels.append(max([p for recall, p in curve if recall >= level], default=0))
    return np.mean(levels)


@pytest.mark.parametrize('seed', range(4))
def test_pck_equals_mmpose_on_resampled_images(seed):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (30, 5, 2))
    found = truth + rng.normal(0, 5, truth.shape)
    labelled = rng.random((30, 5)) < 0.7
    draw = rng.integers(0, 30, 30)
    _, expected, _ = keypoint_pck_accuracy(
        found[draw], truth[draw], labelled[draw], 0.05, np.full((30, 2), 100.0)
    )
    hits = (np.linalg.norm(found - truth, axis=-1) < 5) & labelled
    weights = np.bincount(draw, minlength=30)[None]
    pck = weighted_mean(hits, labelled, weights, by_kind=True)
    assert pck[0] == pytest.approx(expected, abs=1e-9)
    pooled = weighted_mean(hits, labelled, weights, by_kind=False)
    assert pooled[0] == pytest.approx(hits[draw].sum() / labelled[draw].sum())


def test_resamples_draw_every_image_alike():
    weights = resample(50, 4000)
    assert (weights.sum(1) == 50).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.1)
    assert (weights == resample(50, 4000)).all()


IMAGES = 60


class Experiments:
    """N experiments at once: the mean over images of models that are all equally good.

    Args:
        seeds (int): Trainings of each model.
        of_image (float): Standard deviation between images of what a model gives, whichever
            training it is of.
        of_training (float): Standard deviation between trainings.
        of_both (float): Of what an image does to one training.
        number (int): N.
        seed (int): Of the noise.
    """

    def __init__(self, seeds, of_image, of_training, of_both=0.0, number=1000, seed=0):
        self.rng = np.random.default_rng(seed)
        self.shape = number, seeds, IMAGES
        self.of_image, self.of_training, self.of_both = of_image, of_training, of_both
        self.weights = resample(IMAGES, 200) / IMAGES
        self.hard = self.noise(5.0, 1, IMAGES)  # images that all models find hard

    def noise(self, size, *shape):
        return size * self.rng.normal(size=(self.shape[0], *shape))

    def measured(self, name, of_training=1.0):
        _, seeds, images = self.shape
        values = self.hard + self.noise(self.of_image, 1, images)
        values = values + self.noise(self.of_both, seeds, images)
        values = values + self.noise(of_training * self.of_training, seeds, 1)
        trainings = tuple(f'{name} {i}' for i in range(seeds))
        return Measured(values.mean(-1), values @ self.weights.T, trainings, IMAGES)

    def wrong(self, kind):
        """The share of intervals of a row (by itself, against another decoder of the same
        trainings, or another model) that do not hold the truth, which is 0."""
        row = self.measured('a')
        if kind == 'alone':
            error, noise = row.values.mean(1), noise_of(row)
        else:
            other = self.measured('b', 0.3 if kind == 'steadier model' else 1.0)
            if kind == 'decoder':
                other = other._replace(trainings=row.trainings)
            error = row.values.mean(1) - other.values.mean(1)
            noise = noise_of_difference(row, other)
        return np.mean(np.abs(error) > noise.half_width())


# standard deviations of what the images give (all trainings alike), the trainings, and both
SCENARIOS = dict(images=(3.0, 0.01), trainings=(0.3, 2.0), both=(1.0, 0.15), each=(0.0, 0.0, 2.0))
KINDS = ('alone', 'decoder', 'model', 'steadier model')


class TestCoverage:
    """95% intervals miss the truth in 5% of the experiments, up to three standard errors of 1,000:
    exactly where one source of noise outweighs the other, at most elsewhere."""

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('scenario', SCENARIOS)
    @pytest.mark.parametrize('seeds', [2, 3, 5, 10])
    def test_misses_at_most_5_percent(self, seeds, scenario, kind):
        wrong = Experiments(seeds, *SCENARIOS[scenario]).wrong(kind)
        assert wrong < 0.05 + 0.021
        exact = scenario == 'images' or (scenario == 'trainings' and kind == 'decoder')
        if exact:
            assert wrong > 0.05 - 0.021

    @pytest.mark.slow
    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('ratio', [0.1, 0.3, 1, 3, 10])
    @pytest.mark.parametrize('seeds', [2, 3, 5, 10])
    def test_any_ratio(self, seeds, ratio, kind):
        """Of the variances of the mean that trainings and images give."""
        of_training = np.sqrt(ratio * seeds / IMAGES)
        wrong = Experiments(seeds, 1.0, of_training, number=5000, seed=1).wrong(kind)
        assert wrong < 0.05 + 0.0095

    @pytest.mark.parametrize('seeds', [2, 3])
    def test_normal_intervals_would_miss_more(self, seeds):
        """The simulation tells them apart."""
        row = Experiments(seeds, *SCENARIOS['trainings']).measured('a')
        other = row._replace(values=row.values[::-1], samples=row.samples[::-1])
        noise = noise_of_difference(row, other)
        half = 1.96 * np.sqrt(noise.images + noise.trainings)
        error = row.values.mean(1) - other.values.mean(1)
        assert np.mean(np.abs(error) > half) > 0.12

    def test_one_training_has_the_noise_of_images_alone(self):
        row = Experiments(1, 1.0, 5.0, number=300).measured('a')
        noise = noise_of(row)
        assert (noise.trainings == 0).all()
        np.testing.assert_allclose(noise.images.mean(), (1 + 25) / IMAGES, rtol=0.1)

    def test_decoders_of_a_model_are_paired(self):
        """A gain of every training alike is certain, however they differ."""
        row = Experiments(3, 1.0, 5.0, number=1).measured('a')
        other = row._replace(values=row.values + 0.1, samples=row.samples + 0.1)
        assert noise_of_difference(row, other).half_width() == pytest.approx(0, abs=1e-6)
        other = other._replace(trainings=('x', 'y', 'z'))
        assert noise_of_difference(row, other).half_width() > 1


class TestNoiseByHand:
    """Of two trainings on four images."""

    values, samples = np.random.default_rng(0).normal(size=(2, 2, 50))
    a = Measured(values[0, :2], samples, ('a 0', 'a 1'), 4)
    b = Measured(values[1, :2], 2 * samples[::-1] ** 2, ('b 0', 'b 1'), 4)

    def test_of_a_row(self):
        covariance = np.cov(self.a.samples, ddof=0)[0, 1]
        noise = noise_of(self.a)
        assert noise.images == pytest.approx(4 / 3 * max(covariance, 0)) and noise.images_dof == 3
        assert noise.trainings == pytest.approx(np.diff(self.a.values)[0] ** 2 / 4)
        assert noise.trainings_dof == pytest.approx(1)

    def test_of_two_decoders(self):
        """That of the differences of each training."""
        noise = noise_of_difference(self.a, self.b._replace(trainings=self.a.trainings))
        covariance = np.cov(self.a.samples - self.b.samples, ddof=0)[0, 1]
        assert noise.images == pytest.approx(4 / 3 * max(covariance, 0)) and noise.images_dof == 3
        difference = np.diff(self.a.values - self.b.values)[0]
        assert noise.trainings == pytest.approx(difference**2 / 4)

    def test_of_two_models(self):
        """What images do to all trainings of a model, and the same way to both, by covariances."""
        common = np.random.default_rng(1).normal(size=(2, 1, 50))
        a = self.a._replace(samples=self.a.samples + 3 * common[0])
        b = self.b._replace(samples=self.b.samples + 3 * common[1])
        noise = noise_of_difference(a, b)
        cov = np.cov(np.concatenate([a.samples, b.samples]), ddof=0)
        expected = cov[0, 1] + cov[2, 3] - 2 * cov[:2, 2:].mean()
        assert noise.images == pytest.approx(4 / 3 * expected) and noise.images_dof == 3
        parts = [np.diff(row.values)[0] ** 2 / 4 for row in (a, b)]
        assert noise.trainings == pytest.approx(sum(parts))
        assert noise.trainings_dof == pytest.approx(sum(parts) ** 2 / (np.square(parts).sum()))

    def test_of_bounds(self):
        """They add up, for two decoders as well."""
        a, b = (row._replace(samples=abs(row.samples), is_bound=True) for row in (self.a, self.b))
        for other in (b, b._replace(trainings=a.trainings)):
            noise = noise_of_difference(a, other)
            bound = np.quantile(a.samples.mean(0) + b.samples.mean(0), 0.95)
            assert noise.images == pytest.approx(4 / 3 * (bound / 1.959964) ** 2)
            assert noise.images_dof == 3
        assert noise.trainings == pytest.approx(np.diff(a.values - b.values)[0] ** 2 / 4)

    def test_of_one_image(self):
        row = Measured(np.array([1.0]), np.ones((1, 9)), ('a',), 1)
        assert noise_of(row).half_width() == noise_of_difference(row, row).half_width() == 0


class TestIntervals:
    def test_student(self):
        """Against scipy's intervals and tests of the same numbers."""
        values = np.random.default_rng(0).normal(0.4, 1, (2, 6))
        samples = np.zeros((2, 6, 5))
        rows = [Measured(v, s, (name,) * 6, 100) for v, s, name in zip(values, samples, ('a', 'b'))]
        alone = stats.ttest_1samp(values[0], 0)
        interval = confidence_interval(values[0].mean(), noise_of(rows[0]))
        assert interval == pytest.approx(tuple(alone.confidence_interval()))
        assert noise_of(rows[0]).p_value(values[0].mean()) == pytest.approx(alone.pvalue)
        welch = stats.ttest_ind(*values, equal_var=False)
        difference = values[0].mean() - values[1].mean()
        noise = noise_of_difference(*rows)
        assert noise.p_value(difference) == pytest.approx(welch.pvalue)
        paired = rows[1]._replace(trainings=rows[0].trainings)
        expected = stats.ttest_rel(*values).pvalue
        assert noise_of_difference(rows[0], paired).p_value(difference) == pytest.approx(expected)

    def test_images(self):
        """Against the interval of the mean of many values."""
        values = np.random.default_rng(0).normal(3, 2, 400)
        row = Measured(values.mean(keepdims=True), (resample(400) @ values / 400)[None], 'a', 400)
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        interval = confidence_interval(values.mean(), noise_of(row))
        assert interval == pytest.approx(tuple(expected), abs=0.02)

    def test_p_value_ends_where_the_interval_does(self):
        noise = Noise(2.0, 50, 3.0, 2.5)
        half = float(noise.half_width())
        assert noise.p_value(half) == noise.p_value(-half) == pytest.approx(0.05)
        for p in (1e-12, 1e-3, 0.3):
            assert noise.p_value(float(noise.half_width(p))) == pytest.approx(p)
        certain = Noise(0.0, 50, 0.0, 1)
        assert certain.p_value(0) == 1 and certain.p_value(1) == 0

    def test_ends_where_the_metric_ends(self):
        noise = Noise(4.0, 1000, 0.0, 1)
        assert confidence_interval(1, noise, 0, 100) == pytest.approx((0, 4.92), abs=0.01)
        assert confidence_interval(99, noise, 0, 100) == pytest.approx((95.08, 100), abs=0.01)
        assert confidence_interval(-1, noise, 0, 100)[0] == -1  # COCO's "there are none"


def test_adjusted_values_reject_as_holm_does():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.uniform(0, 0.1, 6)
        adjusted = np.array(adjust(p, len(p)))
        rejected = np.zeros(len(p), bool)
        for step, place in enumerate(np.argsort(p)):
            if p[place] > 0.05 / (len(p) - step):
                break
            rejected[place] = True
        np.testing.assert_array_equal(adjusted <= 0.05, rejected)
    assert adjust([0.9, 0.6], 2) == [1, 1]
