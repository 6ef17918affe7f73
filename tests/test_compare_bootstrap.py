# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Weighted re-accumulation against COCOeval and MMPose on resampled sets."""

import contextlib
import io

import numpy as np
import pytest
from mmpose.evaluation.functional import keypoint_pck_accuracy
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from mmpose_simcc.workbench.compare.bootstrap import (
    CocoMatches,
    average_precision,
    interval,
    match_coco,
    resample,
    weighted_pck,
)
from mmpose_simcc.workbench.compare.tables import Row, Training, main_metric, metric_key

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
    pck = weighted_pck(hits, labelled, weights, pooled=False)
    assert pck[0] == pytest.approx(expected, abs=1e-9)
    pooled = weighted_pck(hits, labelled, weights, pooled=True)
    assert pooled[0] == pytest.approx(hits[draw].sum() / labelled[draw].sum())


def test_resamples_draw_every_image_alike():
    weights = resample(50, 4000)
    assert (weights.sum(1) == 50).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.1)
    assert (weights == resample(50, 4000)).all()


def test_interval_of_a_mean():
    """Against the normal interval of the mean of many values."""
    values = np.random.default_rng(0).normal(3, 2, 400)
    means = resample(400, 4000) @ values / 400
    expected = values.mean() + np.array([-1.96, 1.96]) * values.std() / 20
    np.testing.assert_allclose(interval(means), expected, atol=0.03)


@pytest.mark.parametrize(
    'metrics, expected',
    [
        ({'coco/AR': 0.6, 'coco/AP': 0.5}, 'AP'),
        ({'crowdpose/AP': 0.5, 'crowdpose/AP(E)': 0.6}, 'AP'),
        ({'Head PCK': 90.0, 'PCK': 80.0, 'PCK@0.1': 30.0}, 'PCK'),
    ],
)
def test_main_metric(metrics, expected):
    """What studies show where they do not name a metric."""
    training = Training('a.pth', 'results/a', metrics)
    row = Row('a', 'SimCC', 'argmax', (64, 64), 1.0, 1.0, 1.0, 1.0, 1.0, [training])
    assert main_metric([row]) == expected
    assert metric_key([row], expected).split('/')[-1] == expected
