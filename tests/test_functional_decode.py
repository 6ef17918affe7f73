# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decoders against the papers' published code (golden), stock MMPose, brute
force in float64, and properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpose.codecs import MSRAHeatmap

from mmpose_simcc import functional as F

GOLDEN = ['decode_sigma2_64x48.npz', 'decode_sigma3_96x72.npz']


def as_tensor(array):
    return torch.from_numpy(np.array(array))


@pytest.fixture(params=GOLDEN, scope='module')
def golden(request, golden_dir):
    return dict(np.load(golden_dir / request.param))


def random_maps(seed, shape=(2, 17, 64, 48), noise=0.02):
    """Gaussian peaks with a second peak and noise, anywhere on the map."""
    rng = np.random.default_rng(seed)
    H, W = shape[-2:]
    maps = np.zeros(shape, dtype=np.float32)
    for height in (1.0, 0.6):
        x = rng.uniform(0, W - 1, shape[:-2])[..., None, None]
        y = rng.uniform(0, H - 1, shape[:-2])[..., None, None]
        grid_y, grid_x = np.mgrid[:H, :W]
        gaussian = np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / 8)
        maps = np.maximum(maps, height * gaussian)
    maps = maps + noise * rng.standard_normal(shape)
    return maps.astype(np.float32)


def brute_force_daec(heatmap, sigma, delta, corner='br', border='clip'):
    """The definition, cell by cell, in float64; integer delta."""
    H, W = heatmap.shape
    y0, x0 = np.unravel_index(heatmap.argmax(), heatmap.shape)
    e = int(3 * sigma + 1)
    low_x, high_x, low_y, high_y = x0 - e, x0 + e, y0 - e, y0 + e
    if corner in ('br', 'ur'):
        high_x -= delta
    else:
        low_x += delta
    if corner in ('br', 'bl'):
        high_y -= delta
    else:
        low_y += delta
    if border == 'symmetric':
        reach_x, reach_y = min(x0, W - 1 - x0), min(y0, H - 1 - y0)
        low_x, high_x = max(low_x, x0 - reach_x), min(high_x, x0 + reach_x)
        low_y, high_y = max(low_y, y0 - reach_y), min(high_y, y0 + reach_y)
    total = sum_x = sum_y = 0.0
    for y in range(max(low_y, 0), min(high_y, H - 1) + 1):
        for x in range(max(low_x, 0), min(high_x, W - 1) + 1):
            value = max(float(heatmap[y, x]), 1e-10)
            total += value
            sum_x += value * x
            sum_y += value * y
    return (sum_x / total, sum_y / total) if total else (x0, y0)


class TestGolden:
    """Within 1e-3 cells of the published code."""

    def check(self, actual, expected):
        np.testing.assert_allclose(actual.numpy(), expected, atol=1e-3)

    def test_argmax(self, golden):
        locs, vals = F.heatmap_argmax(as_tensor(golden['heatmaps']))
        self.check(locs, golden['standard'])
        self.check(vals, golden['scores'])

    def test_second_max(self, golden):
        maps = as_tensor(golden['heatmaps'])
        locs, _ = F.heatmap_argmax(maps)
        self.check(F.shift_second_max(maps, locs), golden['shift_second_max'])

    def test_dark(self, golden):
        maps = as_tensor(golden['heatmaps'])
        locs, _ = F.heatmap_argmax(maps)
        kernel = int(golden['blur_kernel'])
        assert F.blur_kernel_size_of(float(golden['sigma'])) == kernel
        self.check(F.refine_dark(maps, locs, kernel), golden['dark'])
        self.check(F.refine_dark(maps, locs, 1), golden['dark_unsmoothed'])

    @pytest.mark.parametrize('delta', range(-2, 8))
    def test_daec(self, golden, delta):
        maps = as_tensor(golden['heatmaps'])
        locs, _ = F.heatmap_argmax(maps)
        self.check(
            F.decode_daec(maps, locs, float(golden['sigma']), delta), golden[f'daec_delta_{delta}']
        )


class TestShapes:
    @pytest.mark.parametrize('shape', [(64, 48), (17, 64, 48), (2, 3, 5, 64, 48)])
    def test_any_leading_dimensions(self, shape):
        maps = as_tensor(random_maps(0, (60, 64, 48)))[: np.prod(shape[:-2], dtype=int)]
        locs, vals = F.heatmap_argmax(maps)
        batched = maps.reshape(shape)
        batched_locs, batched_vals = F.heatmap_argmax(batched)
        assert batched_locs.shape == (*shape[:-2], 2)
        assert torch.equal(batched_locs.reshape(-1, 2), locs)
        assert torch.equal(batched_vals.reshape(-1), vals)
        for function, args in (
            (F.shift_quarter, ()),
            (F.shift_second_max, ()),
            (F.refine_dark, (11,)),
            (F.decode_daec, (2, 3)),
        ):
            torch.testing.assert_close(
                function(batched, batched_locs, *args).reshape(-1, 2), function(maps, locs, *args)
            )

    def test_not_contiguous(self):
        maps = as_tensor(random_maps(1))
        strided = maps.transpose(2, 3).contiguous().transpose(2, 3)
        assert not strided.is_contiguous()
        locs, _ = F.heatmap_argmax(maps)
        assert torch.equal(F.heatmap_argmax(strided)[0], locs)
        assert torch.equal(F.refine_dark(strided, locs, 11), F.refine_dark(maps, locs, 11))
        assert torch.equal(F.decode_daec(strided, locs, 2, 4), F.decode_daec(maps, locs, 2, 4))

    @pytest.mark.parametrize('size', [(1, 2), (2, 1), (3, 3), (9, 4), (16, 12), (200, 7)])
    def test_maps_smaller_than_the_window(self, size):
        maps = as_tensor(random_maps(2, (40, *size)))
        locs, _ = F.heatmap_argmax(maps)
        for sigma in (1, 3):
            expected = [brute_force_daec(heatmap, sigma, 2) for heatmap in maps.numpy()]
            np.testing.assert_allclose(F.decode_daec(maps, locs, sigma, 2), expected, atol=1e-3)
        assert F.refine_dark(maps, locs, 17).isfinite().all()
        assert F.shift_quarter(maps, locs).isfinite().all()

    @pytest.mark.parametrize('border', ['clip', 'symmetric'])
    def test_gradients_of_vectors(self, border):
        vectors = as_tensor(random_maps(3, (2, 6, 30)))[:, 0].double()
        locs, _ = F.vector_argmax(vectors)
        vectors.requires_grad_()
        for decode in (
            lambda v: F.decode_daec_1d(v.abs() + 1e-3, locs, 1, 1.5, border=border),
            lambda v: F.refine_dark_1d(v.abs() + 1e-3, locs, 5, 2.0, border),
        ):
            assert torch.autograd.gradcheck(decode, vectors)

    def test_values_flow_back(self):
        """Gradients of the sub-cell decoders, against finite differences."""
        maps = as_tensor(random_maps(3, (2, 12, 12))).double()
        locs, _ = F.heatmap_argmax(maps)
        maps.requires_grad_()
        assert torch.autograd.gradcheck(lambda m: F.decode_daec(m.abs() + 1e-3, locs, 1, 1.5), maps)
        assert torch.autograd.gradcheck(lambda m: F.refine_dark(m.abs() + 1e-3, locs, 5), maps)


class TestQuarter:
    def test_equals_stock_everywhere(self):
        """Also with maxima on borders and corners."""
        codec = MSRAHeatmap((36, 44), (9, 11), sigma=2)
        rng = np.random.default_rng(0)
        maps = rng.random((400, 11, 9)).astype(np.float32)
        locs, _ = F.heatmap_argmax(as_tensor(maps))
        expected, _ = codec.decode(maps)
        np.testing.assert_allclose(
            F.shift_quarter(as_tensor(maps), locs) * 4, expected[0], atol=1e-6
        )


class TestDark:
    @pytest.mark.parametrize('seed', range(3))
    def test_equals_stock(self, seed):
        codec = MSRAHeatmap((192, 256), (48, 64), sigma=2, unbiased=True)
        maps = random_maps(seed)
        locs, _ = F.heatmap_argmax(as_tensor(maps))
        actual = F.refine_dark(as_tensor(maps), locs, 11)
        for sample, refined in zip(maps, actual):
            expected, _ = codec.decode(sample)
            np.testing.assert_allclose(refined * 4, expected[0], atol=4e-3)

    @settings(deadline=None, max_examples=60)
    @given(x=st.floats(8, 39), y=st.floats(8, 55), sigma=st.sampled_from([2, 3]))
    def test_exact_on_clean_unbiased_maps(self, x, y, sigma):
        keypoint = torch.tensor([[x, y]])
        maps, _ = F.gaussian_heatmaps(keypoint, (48, 64), sigma)
        locs, _ = F.heatmap_argmax(maps)
        kernel = F.blur_kernel_size_of(sigma)
        refined = F.refine_dark(maps, locs, kernel)
        assert (refined - keypoint).abs().max() < 0.01

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 1000), max_step=st.sampled_from([0.5, 2.0, 3.0]))
    def test_bounded_on_maps_of_noise(self, seed, max_step):
        """Where the unlimited step leaves the map."""
        maps = as_tensor(np.random.default_rng(seed).random((200, 16, 12)).astype(np.float32))
        locs, _ = F.heatmap_argmax(maps)
        bounded, unlimited = (F.refine_dark(maps, locs, 1, step) for step in (max_step, np.inf))
        step = (bounded - locs).abs().amax(-1)
        assert step.max() <= max_step + 1e-5
        assert (bounded >= 0).all() and (bounded <= torch.tensor([11, 15])).all()
        taken = step > 0
        assert taken.any() and torch.equal(bounded[taken], unlimited[taken])

    def test_no_step_towards_a_saddle(self):
        """Where the log curves upwards, Newton's step leads away from a maximum."""
        y, x = np.mgrid[:9, :9] - 4.0
        heatmap = np.exp(-(x**2) / 2 + 0.1 * y**2 + 0.05 * y)[None].astype(np.float32)
        locs = np.array([[4, 4]])
        np.testing.assert_array_equal(F.refine_dark(heatmap, locs, 1), locs)
        np.testing.assert_array_equal(F.refine_dark_1d(heatmap[:, :, 4], locs[:, 0], 1), [4])

    def test_no_step_from_the_bottom_of_a_bowl(self):
        """Where the log curves upwards along both axes the determinant is positive as well."""
        y, x = np.mgrid[:9, :9] - 4.3
        heatmap = np.exp((x**2 + y**2) / 20)[None].astype(np.float32)
        locs = np.array([[4, 4]])
        np.testing.assert_array_equal(F.refine_dark(heatmap, locs, 1), locs)

    @pytest.mark.parametrize('size', range(1, 60, 2))
    def test_kernel_is_opencvs(self, size):
        import cv2

        from mmpose_simcc.functional.windows import gaussian_kernel

        error = 2.1e-3 if size == 9 else 1e-12  # older versions have no table for 9
        np.testing.assert_allclose(
            gaussian_kernel(size), cv2.getGaussianKernel(size, -1)[:, 0], atol=error
        )

    def test_symmetric_border_of_heatmaps(self):
        """Near the border no bias is left, elsewhere nothing changes."""
        rng = np.random.default_rng(0)
        keypoints = rng.uniform((2, 8), (4, 55), (2000, 2)).astype(np.float32)
        keypoints[1000:, 0] = 47 - keypoints[1000:, 0]
        maps, _ = F.gaussian_heatmaps(keypoints, (48, 64), 2.0)
        locs, _ = F.heatmap_argmax(maps)
        error = F.refine_dark(maps, locs, 11, 2.0, 'symmetric') - keypoints
        clipped = F.refine_dark(maps, locs, 11, 2.0, 'clip') - keypoints
        assert np.abs([error[:1000].mean(0), error[1000:].mean(0)]).max() < 0.02
        assert clipped[:1000, 0].mean() > 0.05 and clipped[1000:, 0].mean() < -0.05
        middle, _ = F.gaussian_heatmaps(keypoints + np.float32([20, 0]), (48, 64), 2.0)
        middle, locs = middle[:1000], F.heatmap_argmax(middle[:1000])[0]
        np.testing.assert_allclose(
            *(F.refine_dark(middle, locs, 11, 2.0, border) for border in ('clip', 'symmetric')),
            atol=1e-5,
        )

    @pytest.mark.parametrize('sigma,size', [(2, 11), (3, 17), (1, 3), (0.3, 3), (1.5, 7), (6, 37)])
    def test_kernel_follows_sigma(self, sigma, size):
        assert F.blur_kernel_size_of(sigma) == size


class TestDaec:
    @pytest.mark.parametrize('border', ['clip', 'symmetric'])
    @pytest.mark.parametrize('corner', ['br', 'ur', 'bl', 'ul'])
    @pytest.mark.parametrize('delta', [-3, 0, 4, 30])
    def test_equals_brute_force(self, corner, delta, border):
        """At every place on the map, borders and corners included."""
        maps = as_tensor(random_maps(4, (80, 24, 20)))
        expected = [
            brute_force_daec(heatmap, 1.5, delta, corner, border) for heatmap in maps.numpy()
        ]
        for same in (maps, maps.numpy()):
            locs, _ = F.heatmap_argmax(same)
            with np.errstate(invalid='ignore'):  # nothing left of a window
                actual = F.decode_daec(same, locs, 1.5, delta, corner, border=border)
            np.testing.assert_allclose(actual, expected, atol=1e-3)

    @settings(deadline=None, max_examples=40)
    @given(
        seed=st.integers(0, 1000),
        delta=st.lists(st.floats(-3, 9), min_size=2, max_size=2),
        corner=st.sampled_from(['br', 'ur', 'bl', 'ul']),
        kernel=st.sampled_from([1, 11]),
    )
    def test_border_changes_nothing_away_from_it(self, seed, delta, corner, kernel):
        """Whole and fractional factors, for x and y."""
        maps = as_tensor(random_maps(seed, (20, 40, 36)))
        locs, _ = F.heatmap_argmax(maps)
        e = F.daec_radius(2)
        reach = torch.tensor([max(e, e - d) for d in delta])
        nearest_border = torch.minimum(locs, torch.tensor([36, 40]) - 1 - locs)
        away = (nearest_border >= reach).all(-1)
        published, symmetric = (
            F.decode_daec(maps, locs, 2, delta, corner, kernel, border)
            for border in ('clip', 'symmetric')
        )
        torch.testing.assert_close(symmetric[away], published[away], atol=1e-6, rtol=0)

    @settings(deadline=None, max_examples=60)
    @given(x=st.integers(0, 15), y=st.integers(0, 15), delta=st.floats(-2, 2))
    def test_symmetric_border_keeps_a_peak_on_its_cell(self, x, y, delta):
        """Where the published window moves it inwards."""
        keypoint = torch.tensor([[float(x), float(y)]])
        maps, _ = F.gaussian_heatmaps(keypoint, (16, 16), 2.0)
        locs, _ = F.heatmap_argmax(maps)
        symmetric = F.decode_daec(maps, locs, 2, delta, border='symmetric')
        assert (symmetric - keypoint).abs().max() < 0.05
        published = F.decode_daec(maps, locs, 2, 0)
        if min(x, 15 - x) < 2:
            assert (published - keypoint)[0, 0].abs() > 0.5

    def test_clipped_window_moves_by_the_mean_of_a_truncated_normal(self):
        """What the docstring says of the published window."""
        from scipy.stats import norm

        for r in range(7):
            maps, _ = F.gaussian_heatmaps(torch.tensor([[float(r), 20.0]]), (48, 64), sigma=2)
            decoded = F.decode_daec(maps, torch.tensor([[r, 20]]), 2, delta=0)
            a = (r + 0.5) / 2
            expected = 2 * norm.pdf(a) / norm.cdf(a)
            assert decoded[0, 0].item() - r == pytest.approx(expected, abs=0.03)

    @settings(deadline=None, max_examples=60)
    @given(x=st.floats(8, 39), y=st.floats(8, 55))
    def test_symmetric_window_is_exact_on_clean_maps(self, x, y):
        keypoint = torch.tensor([[x, y]])
        maps, _ = F.gaussian_heatmaps(keypoint, (48, 64), 2.0)
        locs, _ = F.heatmap_argmax(maps)
        refined = F.decode_daec(maps, locs, 2.0, 0)
        assert (refined - keypoint).abs().max() < 0.01

    def test_fraction_lies_between_whole_deltas_and_is_continuous(self):
        maps = as_tensor(random_maps(5, (30, 64, 48), noise=0)).double()
        locs, _ = F.heatmap_argmax(maps)
        at = [F.decode_daec(maps, locs, 2, d) for d in np.arange(3, 4.01, 0.1)]
        steps = torch.stack(at).diff(dim=0)
        assert (steps <= 1e-9).all()  # cutting more never moves it outwards
        torch.testing.assert_close(F.decode_daec(maps, locs, 2, 3 + 1e-9), at[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(
            F.decode_daec(maps, locs, 2, 4 - 1e-9), at[-1], atol=1e-6, rtol=0
        )

    def test_fraction_weighs_the_last_column(self):
        """Half of column e - 3 counts with delta = 3.5."""
        heatmap = torch.zeros(1, 1, 41)
        heatmap[0, 0, 20], heatmap[0, 0, 24] = 1.0, 0.5
        locs, _ = F.heatmap_argmax(heatmap)
        # e = 7: delta 3 keeps offset 4, delta 4 drops it
        decoded = [F.decode_daec(heatmap, locs, 2, delta)[0, 0].item() for delta in (3, 3.5, 4)]
        np.testing.assert_allclose(
            decoded, [20 + 4 * 0.5 / 1.5, 20 + 4 * 0.25 / 1.25, 20], atol=1e-5
        )

    def test_delta_for_each_axis_and_keypoint(self):
        maps = as_tensor(random_maps(6, (2, 3, 64, 48)))
        locs, _ = F.heatmap_argmax(maps)
        delta = torch.tensor([[4.0, 1.0], [0.0, 2.0], [-2.0, 7.0]])
        actual = F.decode_daec(maps, locs, 2, delta)
        for k in range(3):
            expected = F.decode_daec(maps[:, k], locs[:, k], 2, delta[k])
            torch.testing.assert_close(actual[:, k], expected)
        assert not torch.allclose(actual[:, 0], F.decode_daec(maps[:, 0], locs[:, 0], 2, 4))

    def test_smoothing_is_that_of_the_whole_map(self):
        import cv2

        maps = random_maps(7, (30, 40, 36))
        locs, _ = F.heatmap_argmax(as_tensor(maps))
        actual = F.decode_daec(as_tensor(maps), locs, 2, 3, blur_kernel_size=11)
        smooth = np.stack(
            [
                cv2.GaussianBlur(heatmap, (11, 11), 0, borderType=cv2.BORDER_CONSTANT)
                for heatmap in maps
            ]
        )
        expected = F.decode_daec(as_tensor(smooth), locs, 2, 3)
        np.testing.assert_allclose(actual, expected, atol=1e-3)


class TestAxes:
    """Of a transposed map the answer is the transposed one."""

    @pytest.mark.parametrize(
        'function, args, transposed',
        [
            (F.shift_quarter, (), ()),
            (F.shift_second_max, (), ()),
            (F.refine_dark, (1,), (1,)),
            (F.refine_dark, (5, 2.0, 'symmetric'), (5, 2.0, 'symmetric')),
            (F.decode_daec, (1, [1, 3.5]), (1, [3.5, 1])),
            (F.decode_daec, (1, [-2, 3], 'ur', 5), (1, [3, -2], 'bl', 5)),
            (F.decode_daec, (1, 2, 'ul', 1, 'symmetric'), (1, 2, 'ul', 1, 'symmetric')),
        ],
    )
    def test_transposed(self, function, args, transposed):
        maps = np.random.default_rng(0).random((500, 9, 7))
        locs, _ = F.heatmap_argmax(maps)
        answers = function(maps, locs, *args)
        across = function(np.swapaxes(maps, 1, 2), locs[:, ::-1], *transposed)
        np.testing.assert_allclose(across[:, ::-1], answers, atol=1e-9)

    def test_answers_stay_on_the_map(self):
        """Newton's step leads beyond each of the four borders of maps of noise."""
        maps = np.random.default_rng(0).random((500, 9, 7))
        locs, _ = F.heatmap_argmax(maps)
        answers = F.refine_dark(maps, locs, 1)
        moved = (answers != locs).any(-1)
        for axis, last in enumerate((6, 8)):
            at = answers[moved, axis]
            assert (at >= 0).all() and (at <= last).all() and (at == 0).any() and (at == last).any()


class TestBadMaps:
    def test_no_second_maximum(self):
        heatmap = np.full((1, 3, 4), -np.inf)
        heatmap[0, 1, 2] = 1.0
        np.testing.assert_array_equal(F.shift_second_max(heatmap, np.array([[2, 1]])), [[2, 1]])

    def test_one_bad_map_does_not_touch_its_neighbours(self):
        """Windows at the border read near other maps' memory."""
        maps = as_tensor(random_maps(8, (30, 16, 12)))
        bad = maps.clone()
        bad[::2] = float('nan')
        locs, _ = F.heatmap_argmax(maps)
        for function, args in (
            (F.shift_quarter, ()),
            (F.refine_dark, (11,)),
            (F.decode_daec, (2, 4)),
        ):
            assert torch.equal(function(bad, locs, *args)[1::2], function(maps, locs, *args)[1::2])


class TestVectors:
    """The 1-D forms are the 2-D ones on a map of one line."""

    def test_daec(self):
        vectors = as_tensor(random_maps(9, (50, 1, 60))[:, 0]).abs()
        locs, _ = F.vector_argmax(vectors)
        maps = vectors.unsqueeze(1)
        on_line = torch.stack([locs, 0 * locs], -1)
        for delta in (-2, 0, 1.5, 5):
            pair = torch.tensor([delta, 0.0])
            expected = F.decode_daec(maps, on_line, 2, pair)[:, 0]
            torch.testing.assert_close(F.decode_daec_1d(vectors, locs, 2, delta), expected)

    @settings(deadline=None, max_examples=50)
    @given(x=st.floats(0, 99))
    def test_dark_is_exact_on_gaussians(self, x):
        (vectors,) = F.simcc_gaussian(torch.tensor([[x]]), (100,), (4.0,))
        locs, _ = F.vector_argmax(vectors)
        refined = F.refine_dark_1d(vectors, locs, 1)
        exact = 1 < locs.item() < 98
        assert (refined - x).abs().item() < (0.01 if exact else 0.51)

    @pytest.mark.parametrize('kind', ['torch', 'numpy'])
    def test_any_layout_and_half_precision(self, kind):
        vectors = as_tensor(random_maps(10, (50, 1, 60))[:, 0]).abs().half()
        strided = vectors.T.contiguous().T
        if kind == 'numpy':
            vectors, strided = vectors.numpy(), np.asfortranarray(vectors.numpy())
        wide = vectors.float() if kind == 'torch' else vectors.astype(np.float32)
        locs, _ = F.vector_argmax(wide)
        for function, args in ((F.refine_dark_1d, (11,)), (F.decode_daec_1d, (2, 1.5))):
            expected = function(wide, locs, *args)
            for half in (vectors, strided):
                np.testing.assert_allclose(function(half, locs, *args), expected, atol=1e-5)

    def test_dark_stays_on_the_axis(self):
        rng = np.random.default_rng(0)
        vectors = as_tensor(rng.random((500, 12)))
        locs, _ = F.vector_argmax(vectors)
        refined = F.refine_dark_1d(vectors, locs, 3)
        assert (refined >= 0).all() and (refined <= 11).all()
