# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What is tried on a model: outputs against the codecs, fits against brute force, and that a step
is kept where it should be and nowhere else."""

import numpy as np
import pytest
import torch

from mmpose_simcc import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec
from mmpose_simcc.codecs.calibration import LEVELS, Radii, ScoreMaps, another_decoder
from mmpose_simcc.workbench.calibration.coverage import coverage
from mmpose_simcc.workbench.calibration.fit import (
    FEWEST,
    FEWEST_OF_KEYPOINT,
    Scale,
    conformal_quantile,
    fit_map,
    fit_maps,
    fit_radii,
    fit_scale,
)
from mmpose_simcc.workbench.calibration.ladder import LADDER, climb
from mmpose_simcc.workbench.calibration.outputs import BORDERS, keep_outputs
from mmpose_simcc.workbench.calibration.samples import Decoding, Samples, hold_out_half
from mmpose_simcc.workbench.calibration.steps import (
    DecoderStep,
    FlipStep,
    OffsetStep,
    RadiusStep,
    ScoreStep,
)
from mmpose_simcc.workbench.statistics import paired_gain

N, K, SIZE = 80, 4, (20, 24)
HEATMAP = dict(input_size=(40, 48), heatmap_size=SIZE, sigma=2)
SIMCC = dict(input_size=SIZE, sigma=3.0)


def heatmaps(cells, noise=0.02, second=0.3, seed=0):
    """Gaussians at cells (N, K, 2), a second peak, noise."""
    rng = np.random.default_rng(seed)
    x, y = np.arange(SIZE[0]), np.arange(SIZE[1])[:, None]

    def gaussians(at):
        at = at[..., None, None]
        return np.exp(-((x - at[:, :, 0]) ** 2 + (y - at[:, :, 1]) ** 2) / 8)

    maps = gaussians(cells) + second * gaussians(rng.uniform(0, SIZE, cells.shape))
    return torch.from_numpy(np.float32(maps + noise * rng.standard_normal(maps.shape)))


def vectors(pixels, codec, seed=0):
    """Logits whose softmax is a Gaussian with noise."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for axis, bins in enumerate(codec.num_bins):
        at = torch.from_numpy(pixels[..., axis, None]) * codec.simcc_split_ratio
        logits = -((torch.arange(bins) - at) ** 2) / (2 * codec.sigma[axis] ** 2)
        found.append(logits.float() + 0.2 * torch.randn(logits.shape, generator=generator))
    return found


class TestOutputs:
    def maps(self):
        cells = np.random.default_rng(1).uniform(0, SIZE, (30, K, 2))
        maps = 0.1 * heatmaps(cells)  # an unsure network
        maps[0, 0] = 0
        maps[0, 1] = -1
        maps[0, 2, 3, 4] = float('nan')
        return maps

    def test_fixed_decoders_are_the_codecs(self):
        maps, codec = self.maps(), HeatmapCodec(**HEATMAP)
        outputs = keep_outputs(codec)
        for batch in maps.split(7):
            outputs.append(batch)
        for decoder in (outputs.own, *outputs.fixed.values()):
            keypoints, scores = another_decoder(codec, decoder).batch_decode(maps)
            np.testing.assert_array_equal(outputs.predict(decoder), np.concatenate(keypoints))
            np.testing.assert_array_equal(outputs.scores, np.concatenate(scores))

    @pytest.mark.parametrize('use_udp', [False, True])
    @pytest.mark.parametrize('border', ['clip', 'symmetric'])
    def test_daec_is_the_codec(self, border, use_udp):
        maps, codec = self.maps(), HeatmapCodec(**HEATMAP, use_udp=use_udp)
        outputs = keep_outputs(codec)
        for batch in maps.split(7):
            outputs.append(batch)
        rng = np.random.default_rng(0)
        for delta in (4.0, -1.75, rng.uniform(-2, 7, (K, 2)).tolist()):
            daec = DAECCodec(**HEATMAP, use_udp=use_udp, delta=delta, border=border)
            expected = np.concatenate(daec.batch_decode(maps)[0])
            found = outputs.predict(outputs.daec(delta, border))
            # float16 windows: 0.002 cells of 2 pixels
            np.testing.assert_allclose(found, expected, atol=0.006)

    @pytest.mark.parametrize('use_udp', [False, True])
    @pytest.mark.parametrize('border', ['clip', 'symmetric'])
    def test_simcc_is_the_codec(self, border, use_udp):
        arguments = dict(SIMCC, use_udp=use_udp)
        codec = SimCCCodec(**arguments)
        pixels = np.random.default_rng(1).uniform(0, SIZE, (30, K, 2))
        x, y = vectors(pixels, codec)
        x[0, 0, 3], x[0, 1] = float('nan'), 0
        outputs = keep_outputs(codec)
        for batch in zip(x.split(7), y.split(7)):
            outputs.append(*batch)
        for delta in (0.0, [-2.5, 4.0]):
            daec = SimCCCodec(**arguments, refine='daec', delta=delta, border=border)
            expected = np.concatenate(daec.batch_decode(x, y)[0])
            found = outputs.predict(outputs.daec(delta, border))
            np.testing.assert_allclose(found, expected, atol=0.004)
        dark = np.concatenate(SimCCCodec(**arguments, refine='dark').batch_decode(x, y)[0])
        np.testing.assert_array_equal(outputs.predict(outputs.fixed['dark']), dark)

    @pytest.mark.parametrize('kind', ['heatmap', 'simcc'])
    def test_pairs_are_single_factors(self, kind):
        codec = HeatmapCodec(**HEATMAP) if kind == 'heatmap' else SimCCCodec(**SIMCC)
        outputs = keep_outputs(codec)
        pixels = np.random.default_rng(1).uniform(0, SIZE, (6, K, 2))
        outputs.append(*([heatmaps(pixels)] if kind == 'heatmap' else vectors(pixels, codec)))
        for border in BORDERS:
            rows, pairs = zip(*outputs.predict_pairs(border, together=4))
            assert [row.stop for row in rows] == [4, 6]
            pairs, deltas = np.concatenate(pairs), outputs.deltas
            for i, j in ((0, 0), (3, 20), (len(deltas) - 1, 2)):
                delta = [float(deltas[i]), float(deltas[j])]
                expected = outputs.predict(outputs.daec(delta, border))
                np.testing.assert_allclose(pairs[:, i, j], expected, atol=2e-3)


def samples_of(flips, seed=0, noise=0.0, number=N):
    """People of a model whose answers are shifted, by flip test: {name: cells (2,) or (K, 2)}."""
    rng = np.random.default_rng(seed)
    cells = rng.uniform(8, 12, (number, K, 2))
    codec = HeatmapCodec(**HEATMAP)
    outputs = {}
    for name, shift in flips.items():
        outputs[name] = keep_outputs(codec)
        off = cells + shift + noise * rng.standard_normal(cells.shape)
        for batch in heatmaps(off, noise=0.01, second=0).split(16):
            outputs[name].append(batch)
    img_ids = np.repeat(np.arange(number // 2), 2)
    return Samples(
        outputs,
        truth=cells * 2 * 1.5 + 7,  # cells of 2 input pixels of 1.5 image pixels
        visible=rng.random((number, K)) < 0.8,
        img_ids=img_ids,
        scale=np.full((number, 2), 1.5),
        corner=np.full((number, 2), 7.0),
        areas=np.full(number, 900.0),
        sigmas=[0.03] * K,
        held_out=hold_out_half(img_ids),
    )


def start(samples):
    flip, outputs = next(iter(samples.outputs.items()))
    return Decoding('as it is', outputs.own, flip)


class TestDecoderStep:
    def test_factors_by_brute_force(self):
        samples = samples_of(dict(none=np.array([[0.4, 0.2], [0, 0.3], [0.1, 0.1], [0.5, 0]])))
        outputs, step = samples.outputs['none'], DecoderStep()
        fitted = samples.visible & ~samples.held_out[:, None]

        def quality(delta):
            decoding = Decoding('', outputs.daec(delta, 'clip'), 'none')
            found = samples.similarity(decoding.keypoints(samples))
            return np.where(fitted, found, 0).sum(0)

        deltas = outputs.deltas.tolist()
        curve = np.array([quality(delta) for delta in deltas])
        names = {
            'fractional': deltas[curve.sum(1).argmax()],
            'whole': max(range(-2, 8), key=lambda d: quality(float(d)).sum()),
            'keypoint': [[deltas[best]] * 2 for best in curve.argmax(0)],
        }
        for name, expected in names.items():
            decoding = step.fit(f'daec, clip, {name}', start(samples), samples)
            assert decoding.decoder == outputs.daec(expected, 'clip')
        pair = step.fit('daec, clip, x, y', start(samples), samples).decoder['delta']
        around = [[x + dx, y + dy] for x, y in [pair] for dx in (-0.25, 0, 0.25) for dy in (-1, 1)]
        assert all(quality(pair).sum() >= quality(other).sum() for other in around)

    def test_the_simplest_of_the_best_is_kept(self):
        """On clean Gaussians DARK is better than the quarter shift."""
        samples = samples_of(dict(none=0.0))
        kept, ((_, trials),) = climb(start(samples), samples, [DecoderStep()])
        assert kept.decoder['type'] == 'DARKCodec'
        gains = {trial.name: trial.gain.value for trial in trials}
        assert gains['dark'] > 0 > gains['argmax'] and gains['as it is'] == 0
        assert [trial.name for trial in trials if trial.chosen] == [kept.name]
        held = samples.held_out
        losses = {t.name: DecoderStep().loss(t.decoding, samples)[held] for t in trials}
        best = max((t for t in trials if t.supported), key=lambda t: t.gain.value)
        for trial in trials[: [trial.name for trial in trials].index(kept.name)]:
            worse = paired_gain(losses[trial.name], losses[best.name], samples.img_ids[held])
            assert not trial.supported or worse.low > 0


class TestFlipStep:
    def test_the_better_flip_with_a_factor_of_its_own(self):
        samples = samples_of(dict(stock=np.array([0.5, 0]), exact=0.0, none=np.array([0, 0.3])))
        first = DecoderStep().fit('daec, clip, x, y', start(samples), samples)
        step = FlipStep()
        assert step.candidates(first, samples) == ['stock', 'exact', 'none']
        exact = step.fit('exact', first, samples)
        assert exact.flip == 'exact'
        assert exact.decoder != first.decoder
        dark = DecoderStep().fit('dark', start(samples), samples)
        kept, _ = climb(dark, samples, [step])
        assert kept.flip == 'exact'

    def test_only_one(self):
        samples = samples_of(dict(none=0.0))
        kept, ((_, trials),) = climb(start(samples), samples, [FlipStep()])
        assert len(trials) == 1 and kept.flip == 'none'


class TestOffsetStep:
    def test_a_shift_is_taken_off(self):
        shift = np.array([0.4, -0.2])  # cells of 2 input pixels
        samples = samples_of(dict(none=shift), noise=0.05)
        dark = DecoderStep().fit('dark', start(samples), samples)
        kept, ((_, trials),) = climb(dark, samples, [OffsetStep()])
        np.testing.assert_allclose(kept.offset, [2 * shift], atol=0.06)
        error = np.nanmedian(kept.errors(samples)[samples.held_out], (0, 1))
        np.testing.assert_allclose(error, 0, atol=0.06)
        assert [t.name for t in trials if t.chosen] == ['x, y']  # not finer: they are alike

    def test_keypoints_that_differ(self):
        shift = np.array([[0.4, 0], [-0.4, 0.1], [0, 0.3], [0, -0.3]])
        samples = samples_of(dict(none=shift))
        dark = DecoderStep().fit('dark', start(samples), samples)
        kept, _ = climb(dark, samples, [OffsetStep()])
        np.testing.assert_allclose(kept.offset, 2 * shift, atol=0.06)

    def test_of_the_fitted_part_alone(self):
        samples = samples_of(dict(none=0.0))
        samples.truth[samples.held_out] += 100
        offset = OffsetStep().fit('x, y', start(samples), samples).offset
        assert np.abs(offset).max() < 1

    def test_noise_supports_nothing(self):
        kept = 0
        for seed in range(20):
            samples = samples_of(dict(none=0.0), seed=seed, noise=0.3)
            dark = DecoderStep().fit('dark', start(samples), samples)
            found, _ = climb(dark, samples, [OffsetStep()])
            kept += found.offset is not None
        assert kept <= 2  # 5% of 20 is one


def scored_people(number=4000, seed=0):
    """Scores, and similarities and distances whose mean and spread they tell."""
    rng = np.random.default_rng(seed)
    scores = rng.random((number, K)) * [1.0, 0.9, 0.8, 1.0]
    similarity = (scores**2 + 0.05 * rng.standard_normal(scores.shape)).clip(0, 1)
    distances = (3 - 2.5 * scores) * rng.gamma(2, 1, scores.shape) * [1, 1, 2, 1]
    return scores, similarity, distances


class TestFit:
    def test_map_finds_what_scores_are_worth(self):
        scores, similarity, _ = scored_people()
        points = np.array(fit_map(scores[:, 0], similarity[:, 0]))
        inside = points[3:-2]
        np.testing.assert_allclose(inside[:, 1], inside[:, 0] ** 2, atol=0.03)
        assert (np.diff(points, axis=0) >= 0).all() and len(points) <= 32

    @pytest.mark.parametrize('number', [1, 30, 100, 5000])
    def test_is_a_map_of_any_scores(self, number):
        rng = np.random.default_rng(number)
        for scores in (
            np.ones(number),
            np.zeros(number),
            rng.uniform(-5, 5, number),
            rng.choice([0.3, 0.9, 1.0], number),
        ):
            for right in (np.zeros(number), np.ones(number), rng.uniform(0, 1, number)):
                ScoreMaps([fit_map(scores, right)])(scores[:, None])

    def test_few_samples_share_a_map(self):
        scores, similarity, _ = scored_people(500)
        similarity[FEWEST - 1 :, 1] = np.nan
        maps = fit_maps(scores, similarity)
        common = fit_maps(scores, similarity, of_each=False)
        assert maps[1] == common[0] == common[3] and maps[0] != common[0]

    @pytest.mark.parametrize('n', [9, 10, 19, 100, 101])
    @pytest.mark.parametrize('level', LEVELS)
    def test_quantile_covers(self, n, level):
        """By its definition: the new one is as likely the j-th of n + 1 for every j."""
        distances = np.random.default_rng(n).permutation(n) + 1.0
        rank = conformal_quantile(distances, level)
        assert level <= rank / (n + 1) < level + 1 / (n + 1) + 1e-12

    def test_too_few_for_a_radius(self):
        with pytest.raises(ValueError, match='a radius for 0.9 needs more than 8 keypoints'):
            conformal_quantile(np.ones(8), 0.9)

    def test_guarantee_by_keypoint(self):
        """The probability to lie within lies between p and p + 1 / (n + 1) for each keypoint,
        over draws of the pictures that radii come from; at any scale, fitted on whatever."""
        few, many = 59, 10_000
        test_scores, _, test_distances = scored_people(many, seed=1)
        scale = fit_scale(*scored_people(300, seed=2)[::2])
        found = []
        for seed in range(200):
            scores, _, distances = scored_people(few, seed=seed + 3)
            radii = Radii(**fit_radii(scale, scores, distances))
            found.append((test_distances[..., None] <= radii(test_scores)).mean(0))
        error = np.std(found, 0) / np.sqrt(len(found)) + 0.5 / np.sqrt(many)
        low, high = np.array(LEVELS), np.array(LEVELS) + 1 / (few + 1)
        found = np.mean(found, 0)  # (K, 2)
        assert (found > low - 3 * error).all() and (found < high + 3 * error).all()
        # without a radius of its own the third keypoint, whose distances are twice as large,
        # is held in 0.2 of the cases where 0.5 were asked for
        pooled = np.quantile((distances[..., None] / scale(scores)).reshape(-1, 2)[:, 0], 0.5)
        share = test_distances[:, 2] <= pooled * scale(test_scores)[:, 2, 0]
        assert share.mean() < 0.4

    def test_coverage_on_others(self):
        """Within 2 points by keypoint and by score, which one radius for each keypoint is not."""
        scale = fit_scale(*scored_people(4000, seed=2)[::2])
        scores, _, distances = scored_people(10000)
        others, _, others_distances = scored_people(20000, seed=1)
        edges = np.quantile(others, [0, 0.2, 0.4, 0.6, 0.8, 1])
        for by_score in (True, False):
            sizes = scale if by_score else Scale(np.zeros(0), np.ones((1, 2)))
            radii = Radii(**fit_radii(sizes, scores, distances))
            within = others_distances[..., None] <= radii(others)
            np.testing.assert_allclose(within.mean(0), [LEVELS] * K, atol=0.02)
            of_scores = [
                within[(others >= low) & (others <= high)].mean(0)
                for low, high in zip(edges, edges[1:])
            ]
            assert (np.abs(np.array(of_scores) - LEVELS).max() < 0.02) == by_score

    def test_equal_scores_share_an_interval(self):
        scores, _, distances = scored_people(1000)
        scores = scores.round(1)
        edges = fit_scale(scores, distances).edges
        assert len(edges) and np.isin(np.float32(edges), np.float32(np.arange(11) / 10)).all()

    def test_few_samples_share_radii(self):
        scores, _, distances = scored_people(500)
        distances[FEWEST_OF_KEYPOINT - 1 :, 1] = np.nan
        scale = fit_scale(scores, distances)
        pixels = np.array(fit_radii(scale, scores, distances)['pixels'])
        factors = pixels / scale.sizes
        known = ~np.isnan(distances)
        relative = (distances[..., None] / scale(scores))[known]
        common = [conformal_quantile(relative[:, i], level) for i, level in enumerate(LEVELS)]
        np.testing.assert_allclose(factors[1], [common] * len(scale.sizes), rtol=1e-3)
        assert np.abs(factors[0] / common - 1).max() > 0.1

    def test_distances_of_nothing(self):
        """A model that makes no error has radii of nothing, not of NaN."""
        scores, _, distances = scored_people(200)
        radii = fit_radii(fit_scale(scores, 0 * distances), scores, 0 * distances)
        assert np.max(radii['pixels']) == 0


class TestScoresAndRadii:
    def test_a_whole_ladder(self):
        samples = samples_of(dict(stock=np.array([0.4, 0]), exact=0.0, none=0.1), noise=0.1)
        kept, tried = climb(start(samples), samples)
        assert [step.title for step, _ in tried] == [step.title for step in LADDER]
        assert all(sum(trial.chosen for trial in trials) == 1 for _, trials in tried)
        rows = {row['group']: row for row in coverage(kept, samples)}
        assert 0.4 < rows['all']['keypoints'] / samples.visible[samples.held_out].sum() < 0.6
        for level in ('0.5', '0.9'):
            assert abs(rows['all'][level] - float(level)) < 2 * rows['all'][f'± {level}']

    def test_scores_and_radii_move_no_keypoint(self):
        samples = samples_of(dict(none=0.0), noise=0.1)
        first = start(samples)
        kept, _ = climb(first, samples, [ScoreStep(), RadiusStep()])
        assert kept.score_maps is not None and kept.radii is not None
        np.testing.assert_array_equal(kept.keypoints(samples), first.keypoints(samples))

    @pytest.mark.parametrize('alike', [True, False])
    def test_maps_of_each_keypoint_where_they_gain(self, alike):
        """The worth of a score differs between keypoints, or it does not."""
        samples = samples_of(dict(none=0.0), number=800)
        rng = np.random.default_rng(0)
        scores = rng.uniform(0, 1, (800, K))
        worth = scores**2 if alike else scores * [0.3, 0.6, 0.8, 1.0]
        right = (rng.uniform(0, 1, scores.shape) < worth).astype(float)
        samples.outputs['none']._kept['scores'] = scores
        samples.measure = lambda keypoints: right
        _, ((_, trials),) = climb(start(samples), samples, [ScoreStep()])
        kept = next(trial.name for trial in trials if trial.chosen)
        assert kept == ('one map' if alike else 'a map for each keypoint')

    def test_pinball_loss_is_least_at_the_quantile(self):
        samples = samples_of(dict(none=0.0), noise=0.3)
        step = RadiusStep()
        best = step.fit_on(np.ones(N, bool), start(samples), samples)
        loss = np.nanmean(step.loss(best, samples))
        for factor in (0.9, 1.1):
            pixels = [[[r * factor for r in row] for row in rows] for rows in best.radii['pixels']]
            other = Decoding('', best.decoder, 'none', radii=dict(best.radii, pixels=pixels))
            assert np.nanmean(step.loss(other, samples)) > loss


class TestPairedGain:
    def test_covers_the_truth(self):
        """People of an image are alike: 95% intervals hold the truth in 95%."""
        rng, held = np.random.default_rng(0), 0
        for _ in range(400):
            images = np.repeat(np.arange(30), rng.integers(1, 5, 30))
            effect = rng.normal(0.1, 0.3, 30)[images][:, None]
            difference = effect + rng.normal(0, 0.2, (len(images), 3))
            difference[rng.random(difference.shape) < 0.3] = np.nan
            gain = paired_gain(difference, 0 * difference, images)
            held += gain.low <= 0.1 <= gain.high
            assert (gain.p_value < 0.05) == (gain.low > 0 or gain.high < 0)
        assert 0.92 <= held / 400 <= 0.98

    def test_nothing_differs(self):
        zeros = np.zeros((4, 2))
        assert paired_gain(zeros, zeros, np.arange(4)) == (0, 0, 0, 1)


class TestHoldOut:
    def test_keeps_images_together(self):
        img_ids = np.repeat(np.arange(50), 3)
        held = hold_out_half(img_ids)
        assert held.sum() == 75 and all(len(set(held[img_ids == i])) == 1 for i in range(50))

    def test_too_few_images(self):
        with pytest.raises(ValueError, match='a single image cannot be split'):
            hold_out_half(np.zeros(5))


def test_dark_without_its_own_kernel():
    """A codec of another kernel is compared with the kernel that follows sigma as well."""
    codec = DARKCodec(**HEATMAP, blur_kernel_size=5)
    outputs = keep_outputs(codec)
    assert outputs.fixed['dark']['blur_kernel_size'] == 5
    assert outputs.fixed['dark, kernel 11']['blur_kernel_size'] == 11
