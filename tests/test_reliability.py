# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Whether scores mean what they say: against sums by hand, and by simulation."""

import itertools

import numpy as np
import pytest

from mmpose_simcc.workbench.reliability import (
    BINS,
    Ranking,
    calibration_error,
    calibration_noise,
    equal_mass_bins,
    kept,
    reliability,
)
from mmpose_simcc.workbench.statistics import Measured, noise_of, noise_of_difference, resample


def drawn(number, seed, worth=np.square):
    """Scores, and whether keypoints are right, which their scores overrate."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, number)
    return scores, (rng.uniform(0, 1, number) < worth(scores)).astype(float)


class TestBins:
    @pytest.mark.parametrize('bins', [1, 4, BINS])
    @pytest.mark.parametrize('number', [1, 14, 15, 16, 100])
    def test_hold_equally_many(self, number, bins):
        scores = np.random.default_rng(0).permutation(number)
        index = equal_mass_bins(scores, bins)
        counts = np.bincount(index, minlength=bins)
        assert len(counts) == bins and counts.max() - counts.min() <= 1
        assert (np.diff(index[np.argsort(scores)]) >= 0).all()

    @pytest.mark.parametrize('different', [1, 3, 10])
    def test_never_split_a_tie(self, different):
        scores = np.random.default_rng(0).integers(0, different, 60)
        index = equal_mass_bins(scores)
        assert all(len(set(index[scores == score])) == 1 for score in set(scores))
        assert index.max() < BINS

    @pytest.mark.parametrize('order', [1, -1])
    def test_order_of_the_file_does_not_matter(self, order):
        """Equal scores with the right keypoints first or last."""
        scores = np.repeat([0.2, 0.9], [40, 60])
        right = np.sort(np.random.default_rng(0).random(100) < 0.8)[::order].astype(float)
        expected = sum(
            (scores == s).mean() * abs(s - right[scores == s].mean()) for s in (0.2, 0.9)
        )
        assert calibration_error(scores, right) == pytest.approx(expected)


class TestCalibrationError:
    def test_by_hand(self):
        scores, right = drawn(900, 0)
        parts = np.split(np.argsort(scores), BINS)
        expected = np.mean([abs(scores[p].mean() - right[p].mean()) for p in parts])
        assert calibration_error(scores, right) == pytest.approx(expected)

    def test_many(self):
        """E|s - s^2| = 1/6 for uniform scores."""
        assert calibration_error(*drawn(200_000, 1)) == pytest.approx(1 / 6, abs=5e-3)

    def test_noise_is_the_distance_of_gaps(self):
        scores, right = drawn(120, 2)
        image_of = np.arange(120) // 4
        weights = resample(30, 4)
        bins = equal_mass_bins(scores)

        def gaps(times):
            return np.array(
                [(times * (scores - right))[bins == b].sum() / times.sum() for b in range(BINS)]
            )

        found = calibration_noise(scores, right, image_of, weights)
        for w, noise in zip(weights, found):
            expected = np.abs(gaps(w[image_of]) - gaps(np.ones(120))).sum()
            assert noise == pytest.approx(expected)


def measured(scores, right, per_image=8, name='a'):
    images = len(scores) // per_image
    noise = calibration_noise(
        scores, right, np.arange(len(scores)) // per_image, resample(images, 300)
    )
    value = calibration_error(scores, right)
    return Measured(np.array([value]), noise[None], (name,), images, is_bound=True)


class TestIntervalsOfCalibrationError:
    """Lower ends are cut at 0, where a value without error lies."""

    def test_perfectly_calibrated_scores(self):
        """Those of other pictures would have an error of 0: 95% of the intervals hold it."""
        found = [measured(*drawn(800, seed, worth=lambda s: s)) for seed in range(200)]
        holds = [row.values[0] <= noise_of(row).half_width() for row in found]
        assert np.mean(holds) == pytest.approx(0.95, abs=0.04)
        assert min(row.values[0] for row in found) > 0.01  # the plain error is never 0

    @pytest.mark.parametrize('bias', [0.02, 0.1, 0.3])
    def test_wrong_scores(self, bias):
        misses = 0
        for seed in range(40):
            scores, right = drawn(800, seed, worth=lambda s: (1 - 2 * bias) * s + bias)
            row = measured(scores, right)
            true = np.abs(scores - (1 - 2 * bias) * scores - bias).mean()
            misses += abs(row.values[0] - true) > noise_of(row).half_width()
        assert misses <= 4

    def test_equal_decoders_are_not_told_apart(self):
        told = 0
        for seed in range(60):
            rows = [
                measured(*drawn(800, 2 * seed + i, worth=lambda s: s), name=str(i)) for i in (0, 1)
            ]
            difference = float(rows[0].values[0] - rows[1].values[0])
            told += noise_of_difference(*rows).p_value(difference) < 0.05
        assert told <= 5

    def test_calibration_is_told_apart(self):
        scores, right = drawn(2000, 0)
        rows = measured(scores, right), measured(scores**2, right)
        difference = float(rows[0].values[0] - rows[1].values[0])
        assert difference > 0.1 and noise_of_difference(*rows).p_value(difference) < 1e-3


class TestRanking:
    def test_auroc_is_the_chance_of_order(self):
        scores, right = drawn(80, 2)
        scores = scores.round(1)  # with ties
        pairs = list(itertools.product(scores[right == 1], scores[right == 0]))
        expected = np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])
        assert reliability(scores, right)['AUROC'] == pytest.approx(expected)
        # weights count as copies
        weights = np.random.default_rng(3).integers(0, 4, len(scores))
        copies = [np.repeat(a, weights) for a in (scores, right)]
        assert Ranking.of(scores, right).auroc(weights) == pytest.approx(
            reliability(*copies)['AUROC']
        )

    def test_right_is_a_similarity_of_one_half(self):
        scores, similarity = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.5, 0.49, 0.74, 0.1])
        assert Ranking.of(scores, similarity).right.tolist() == [True, False, True, False]
        assert reliability(scores, similarity)['AUROC'] == pytest.approx(3 / 4)
        _, left, share = kept(scores, similarity)
        assert left.tolist() == [1, 0.75, 0.5, 0.25]
        assert share == pytest.approx([0.5, 2 / 3, 0.5, 1])

    def test_kept(self):
        scores, right = drawn(60, 4)
        scores = scores.round(1)
        for threshold, left, share in zip(*kept(scores, right)):
            assert left == pytest.approx((scores >= threshold).mean())
            assert share == pytest.approx(right[scores >= threshold].mean())


def test_without_truth():
    assert reliability(np.ones((3, 2)), np.full((3, 2), np.nan)) == {}
    assert list(reliability(np.ones(4), np.ones(4))) == ['ECE']
    known = np.array([1.0, np.nan, 0.0])
    found = reliability(np.array([0.9, 5.0, 0.1]), known)
    assert found == pytest.approx(dict(ECE=0.1, AUROC=1.0))
