# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpose.codecs import MSRAHeatmap, SimCCLabel
from mmpose.registry import KEYPOINT_CODECS

from mmpose_simcc import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec, SimCCKLLoss
from mmpose_simcc import functional as F

SIZE = dict(input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
HEATMAP_CODECS = [HeatmapCodec, DARKCodec, DAECCodec]
SMOOTHINGS = ['none', 'equal', 'gaussian', 'laplace']


def keypoints_strategy(low_x, high_x, low_y, high_y):
    return st.tuples(st.floats(low_x, high_x), st.floats(low_y, high_y)).map(
        lambda point: np.array([[point]], dtype=np.float32)
    )


@pytest.mark.parametrize('name', ['SimCCCodec', 'HeatmapCodec', 'DARKCodec', 'DAECCodec'])
def test_registered(name):
    assert KEYPOINT_CODECS.get(name).__module__.startswith('mmpose_simcc')


class TestHeatmapEncode:
    @pytest.mark.parametrize('codec', HEATMAP_CODECS)
    @pytest.mark.parametrize('sigma', [1, 2, 3])
    @pytest.mark.parametrize('unbiased', [False, True])
    def test_equals_stock(self, codec, sigma, unbiased):
        """Values and reach, also of keypoints far outside of the map."""
        arguments = {**SIZE, 'sigma': sigma, 'unbiased': unbiased}
        stock, ours = MSRAHeatmap(**arguments), codec(**arguments)
        rng = np.random.default_rng(0)
        keypoints = rng.uniform(-60, 320, (1, 600, 2)).astype(np.float32)
        visible = (rng.random((1, 600)) > 0.3).astype(np.float32)
        expected, actual = stock.encode(keypoints, visible), ours.encode(keypoints, visible)
        assert actual.keys() == expected.keys()
        for key, value in actual.items():
            assert value.dtype == np.float32
            np.testing.assert_allclose(value, expected[key], atol=1e-6)

    def test_defaults(self):
        assert not HeatmapCodec(**SIZE).unbiased
        assert DARKCodec(**SIZE).unbiased
        assert not DAECCodec(**SIZE).unbiased
        assert DARKCodec(**SIZE).blur_kernel_size == 11
        assert DARKCodec((288, 384), (72, 96), 3).blur_kernel_size == 17

    @pytest.mark.parametrize('N', [0, 2, 3])
    def test_one_instance_a_sample_as_in_stock(self, N):
        with pytest.raises(AssertionError):
            MSRAHeatmap(**SIZE).encode(np.zeros((N, 5, 2)))
        with pytest.raises(ValueError, match='`keypoints` must be of one instance'):
            HeatmapCodec(**SIZE).encode(np.zeros((N, 5, 2)))


class TestHeatmapDecode:
    @settings(deadline=None, max_examples=50)
    @given(keypoint=keypoints_strategy(32, 160, 32, 224))
    def test_round_trips(self, keypoint):
        """Pixels: a hundredth of a cell is 0.04 px."""
        for codec, error in (
            (DARKCodec(**SIZE), 0.04),
            (DAECCodec(**SIZE, unbiased=True, delta=0), 0.04),
            (HeatmapCodec(**SIZE, refine='none'), 2.001),
        ):
            encoded = codec.encode(keypoint)
            decoded, scores = codec.decode(encoded['heatmaps'])
            assert decoded.shape == (1, 1, 2) and scores.shape == (1, 1)
            assert np.abs(decoded - keypoint).max() <= error


class TestDelta:
    def test_forms(self):
        maps = torch.rand(4, 3, 64, 48)

        def decode(delta, **kwargs):
            codec = DAECCodec(**SIZE, delta=delta, **kwargs)
            return np.stack(codec.batch_decode(maps)[0])[:, 0]

        np.testing.assert_array_equal(decode('empirical'), decode(4))
        np.testing.assert_array_equal(decode('empirical', smooth=True), decode(3, smooth=True))
        np.testing.assert_array_equal(decode((4, 4)), decode(4))
        np.testing.assert_array_equal(decode([4, 4, 4]), decode(4))
        np.testing.assert_array_equal(decode([[4, 4]] * 3), decode(4))
        per_keypoint = decode([1, 2.5, -1])
        for k, delta in enumerate([1, 2.5, -1]):
            np.testing.assert_allclose(per_keypoint[:, k], decode(delta)[:, k], atol=1e-4)

    @pytest.mark.parametrize(
        'delta',
        [
            'sigma',
            None,
            True,
            [],
            float('nan'),
            [1, 2, float('inf')],
            'a.txt',
            [[1, 2, 3]] * 3,
            np.zeros((2, 2, 2)),
        ],
    )
    def test_errors(self, delta):
        with pytest.raises(ValueError, match='`delta` must be'):
            DAECCodec(**SIZE, delta=delta)

    @pytest.mark.parametrize('delta', [2, 1.5, (1, 2.5), [0, 1, 2.5], [[0, 1], [2, 3], [-1, 4]]])
    def test_border(self, delta):
        """Every form of a factor; only keypoints near the border move."""
        size = dict(input_size=(64, 64), heatmap_size=(16, 16), sigma=2)
        keypoints = np.array([[[30.0, 33], [2, 32], [61, 5]]], np.float32)
        maps = HeatmapCodec(**size, unbiased=True).encode(keypoints)['heatmaps']
        clipped, symmetric = (
            DAECCodec(**size, delta=delta, border=border).decode(maps)[0][0]
            for border in ('clip', 'symmetric')
        )
        np.testing.assert_array_equal(DAECCodec(**size, delta=delta).decode(maps)[0][0], clipped)
        np.testing.assert_allclose(symmetric[0], clipped[0], atol=0.3)
        assert symmetric[1, 0] < clipped[1, 0] - 2 and symmetric[2, 0] > clipped[2, 0]
        assert np.abs(symmetric[1:] - keypoints[0, 1:]).max() < 3

    def test_wrong_number_of_keypoints(self):
        codec = DAECCodec(**SIZE, delta=[1, 2, 3])
        with pytest.raises(ValueError, match='each of the 17 keypoints'):
            codec.decode(np.zeros((17, 64, 48), dtype=np.float32))


WRONG = {
    (HeatmapCodec, DARKCodec, DAECCodec): [
        dict(input_size=192),
        dict(input_size=(0, 256)),
        dict(heatmap_size=(48, 64, 1)),
        dict(heatmap_size=(48.5, 64)),
        dict(sigma=0),
        dict(sigma=float('nan')),
        dict(sigma='2'),
        dict(sigma=0.2),
        dict(unbiased=1),
        dict(blur_kernel_size=10),
        dict(blur_kernel_size=-1),
    ],
    (HeatmapCodec,): [dict(refine='dark')],
    (DAECCodec,): [dict(corner='tl'), dict(smooth='yes')],
    (DARKCodec, DAECCodec): [dict(border='mirror')],
    (SimCCCodec,): [
        dict(input_size=(192,)),
        dict(simcc_split_ratio=0.5),
        dict(simcc_split_ratio=float('inf')),
        dict(label_smoothing='uniform'),
        dict(sigma=-1),
        dict(sigma=0.49),
        dict(sigma=(6, 0.9), label_smoothing='laplace'),
        dict(sigma=(1, 2, 3)),
        dict(smoothing=1.0),
        dict(smoothing=-0.1),
        dict(refine='quarter'),
        dict(blur_kernel_size=4),
        dict(delta='empirical'),
        dict(score='raw'),
        dict(border='mirror'),
    ],
}


@pytest.mark.parametrize(
    'codec, arguments',
    [(c, wrong) for codecs, all_ in WRONG.items() for c in codecs for wrong in all_],
)
def test_wrong_arguments(codec, arguments):
    name, size = next(iter(arguments)), dict(input_size=(192, 256))
    with pytest.raises(ValueError, match=f'`{name}` must be .* got'):
        codec(**{**(size if codec is SimCCCodec else SIZE), **arguments})


def perfect_logits(codec, keypoint):
    encoded = codec.encode(keypoint)
    with np.errstate(divide='ignore'):
        return [np.log(encoded[f'keypoint_{axis}_labels'])[0] for axis in 'xy']


class TestSimCC:
    def test_gaussian_labels_equal_stock_up_to_rounding(self):
        stock = SimCCLabel((192, 256), sigma=(4.9, 5.66))
        ours = SimCCCodec((192, 256), sigma=(4.9, 5.66))
        rng = np.random.default_rng(0)
        keypoints = rng.integers(0, 380, (1, 17, 2)).astype(np.float32) / 2
        expected, actual = stock.encode(keypoints), ours.encode(keypoints)
        for key, value in actual.items():
            np.testing.assert_allclose(value, expected[key], atol=1e-7)

    @pytest.mark.parametrize('smoothing', SMOOTHINGS)
    @pytest.mark.parametrize('k', [1, 1.5, 2, 3, 4, 2.7])
    def test_bins_and_shapes(self, smoothing, k):
        codec = SimCCCodec((191, 253), k, smoothing)
        encoded = codec.encode(np.full((2, 3, 2), 50.0))
        assert encoded['keypoint_x_labels'].shape == (2, 3, round(191 * k))
        assert encoded['keypoint_y_labels'].shape == (2, 3, round(253 * k))
        assert encoded['keypoint_x_labels'].dtype == np.float32

    @pytest.mark.parametrize('smoothing', SMOOTHINGS)
    @settings(deadline=None, max_examples=40)
    @given(keypoint=keypoints_strategy(0, 191, 0, 255), k=st.sampled_from([1, 1.5, 2, 3, 4]))
    def test_round_trip(self, smoothing, keypoint, k):
        codec = SimCCCodec((192, 256), k, smoothing, sigma=4.0)
        assert codec.encode(keypoint)['keypoint_weights'].item() == 1
        decoded, scores = codec.decode(*perfect_logits(codec, keypoint))
        assert np.abs(decoded - keypoint).max() <= 0.5 / k + 1e-4
        assert 0 < scores.item() <= 1

    @pytest.mark.parametrize('refine', ['dark', 'daec'])
    def test_refine_is_sub_bin(self, refine):
        codec = SimCCCodec((192, 256), 2, sigma=4.0, refine=refine)
        rng = np.random.default_rng(0)
        keypoints = rng.uniform(20, 170, (1, 40, 2)).astype(np.float32)
        decoded, _ = codec.decode(*perfect_logits(codec, keypoints))
        assert np.abs(decoded - keypoints).max() < 0.02

    @pytest.mark.parametrize('refine, bias', [('dark', 0.3), ('daec', 0.6)])
    def test_refine_near_the_ends_of_an_axis(self, refine, bias):
        """A perfect output, at every distance d to d + 1 from either end: with the symmetric
        border there is no bias, with the clipped one there is."""
        arguments = dict(input_size=(64, 64), sigma=6.0, refine=refine)
        clipped, symmetric = (
            SimCCCodec(**arguments, border=border) for border in ('clip', 'symmetric')
        )
        assert SimCCCodec(**arguments).border == 'clip'
        x = np.random.default_rng(0).uniform(size=500)
        for d in (0, 1, 2, 3, 5, 8, 20):
            near = np.stack([d + x, 63 - d - x], -1)[None].astype(np.float32)
            for sign, axis in ((1, 0), (-1, 1)):
                error = [
                    sign * (c.decode(*perfect_logits(c, near))[0] - near)[..., axis].mean()
                    for c in (clipped, symmetric)
                ]
                assert abs(error[1]) < 0.1
                if d in (1, 2):
                    assert error[0] > bias

    @pytest.mark.parametrize(
        'smoothing, sigma, error', [('gaussian', 0.5, 0.02), ('laplace', 1, 0.09)]
    )
    def test_the_smallest_sigma_gives_labels_that_sum_to_1(self, smoothing, sigma, error):
        codec = SimCCCodec((64, 64), 2, smoothing, sigma=sigma)
        keypoints = np.random.default_rng(0).uniform(20, 40, (1, 200, 2))
        for axis in 'xy':
            labels = codec.encode(keypoints)[f'keypoint_{axis}_labels']
            np.testing.assert_allclose(labels.sum(-1), 1, atol=error)

    @pytest.mark.parametrize('label_beta', [1.0, 10.0])
    def test_perfect_prediction_has_the_loss_at_its_minimum(self, label_beta):
        """By descent on the loss itself, for a keypoint in the middle of the axis."""
        arguments = dict(label_softmax=True, label_beta=label_beta)
        codec = SimCCCodec((48, 64), 2, normalize=False, beta=2.0, **arguments)
        encoded = codec.encode(np.array([[[24.0, 32.0]]]))
        target = tuple(torch.from_numpy(encoded[f'keypoint_{axis}_labels']) for axis in 'xy')
        logits = [torch.zeros_like(t, requires_grad=True) for t in target]
        loss = SimCCKLLoss(beta=2.0, **arguments)
        optimizer = torch.optim.LBFGS(logits, max_iter=200, line_search_fn='strong_wolfe')

        def step():
            optimizer.zero_grad()
            value = loss(logits, target, torch.ones(1, 1))
            value.backward()
            return value

        optimizer.step(step)
        for z, mass, at in zip(logits, codec.perfect_mass, (48, 64)):
            p = (2 * z.detach()[0, 0]).softmax(-1)
            assert p[at - 2 : at + 3].sum().item() == pytest.approx(mass, rel=1e-3)
        _, scores = codec.decode(*(z.detach()[0].numpy() for z in logits))
        assert scores.item() == pytest.approx(1, abs=1e-3)

    @pytest.mark.parametrize('refine', ['none', 'dark', 'daec'])
    def test_coordinates_ignore_an_offset(self, refine):
        codec = SimCCCodec((192, 256), refine=refine)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(4, 17, 384, generator=generator)
        y = torch.randn(4, 17, 512, generator=generator)
        expected, scores = codec.decode_tensors(x, y)
        for offset in (-100.0, -3.0, 64.0):
            moved, moved_scores = codec.decode_tensors(x + offset, y + offset)
            torch.testing.assert_close(moved, expected, atol=1e-2, rtol=0)
            torch.testing.assert_close(moved_scores, scores, atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize('smoothing', SMOOTHINGS)
    def test_scores_mean_the_same(self, smoothing):
        """Perfect is 1, and half the peak is half the score."""
        codec = SimCCCodec((192, 256), 2, smoothing, sigma=4.0)
        point = np.array([[[50.0, 70.0]]], dtype=np.float32)
        x, y = perfect_logits(codec, point)
        assert codec.decode(x, y)[1].item() == pytest.approx(1, abs=1e-4)
        probability = np.exp(x) / np.exp(x).sum()
        far = np.roll(probability, 150, axis=-1)
        _, score = codec.decode(np.log(0.6 * probability + 0.4 * far + 1e-12).astype(np.float32), y)
        assert score.item() == pytest.approx(0.6, abs=0.02)

    @pytest.mark.parametrize('smoothing', ['none', 'equal'])
    @pytest.mark.parametrize('k', [1, 1.5, 2, 3, 4])
    def test_scores_do_not_fall_with_k(self, smoothing, k):
        """A network that is uncertain by a pixel spreads its probability
        over more bins where they are finer."""
        codec = SimCCCodec((192, 256), k, smoothing)
        logits = (-((np.arange(n) / k - 90)[None] ** 2) / 2 for n in codec.num_bins)
        _, score = codec.decode(*logits)
        assert 0.7 < score.item() <= 1

    def test_score_is_the_smaller_axis(self):
        codec = SimCCCodec((192, 256), 2, 'none')
        x, y = np.zeros((1, 384), np.float32), np.zeros((1, 512), np.float32)
        x[0, 10], y[0, 20] = 20.0, 8.0
        # a pixel on both sides of the peak counts
        expected = (np.exp(8) + 4) / (np.exp(8) + 511)
        assert codec.decode(x, y)[1].item() == pytest.approx(expected)

    def test_logit_scores_are_stocks(self):
        stock = SimCCLabel((192, 256))
        codec = SimCCCodec((192, 256), score='maximum')
        rng = np.random.default_rng(0)
        x = rng.standard_normal((17, 384)).astype(np.float32) + 3
        y = rng.standard_normal((17, 512)).astype(np.float32) + 3
        for actual, expected in zip(codec.decode(x, y), stock.decode(x, y)):
            np.testing.assert_array_equal(actual, expected)

    def test_outputs_that_are_not_finite_score_0(self):
        codec = SimCCCodec((12, 16), score='maximum')
        x, y = np.full((3, 24), 2.0, np.float32), np.full((3, 32), 3.0, np.float32)
        x[1, 5], y[2, 7] = np.inf, -np.inf
        assert codec.decode(x, y)[1].tolist() == [[2, 0, 2]]


class TestRefineArguments:
    """Every argument of decoding reaches the equation, with the numbers of its own axis."""

    @pytest.mark.parametrize(
        'arguments',
        [
            dict(refine='dark'),
            dict(refine='dark', blur_kernel_size=5),
            dict(refine='dark', border='symmetric'),
            dict(refine='daec'),
            dict(refine='daec', delta=(1.5, -2)),
            dict(refine='daec', border='symmetric'),
        ],
    )
    def test_simcc(self, arguments):
        codec = SimCCCodec((24, 32), 2, sigma=(1.5, 4.0), beta=1.5, **arguments)
        rng = np.random.default_rng(0)
        logits = [2 * rng.standard_normal((300, bins)) for bins in (48, 64)]
        points, _ = codec.decode(*logits)
        border = arguments.get('border', 'clip')
        for axis, sigma in enumerate((1.5, 4.0)):
            p = scipy.special.softmax(1.5 * logits[axis], -1)
            if codec.refine == 'dark':
                size = arguments.get('blur_kernel_size') or F.blur_kernel_size_of(sigma)
                bins = F.refine_dark_1d(p, p.argmax(-1), size, sigma, border)
            else:
                delta = arguments.get('delta', (0, 0))[axis]
                bins = F.decode_daec_1d(p, p.argmax(-1), sigma, delta, border=border)
            np.testing.assert_allclose(points[0, :, axis], bins / 2, atol=1e-6)

    @pytest.mark.parametrize('arguments', [dict(), dict(border='symmetric'), dict(sigma=1.0)])
    def test_dark(self, arguments):
        arguments = {**SIZE, 'sigma': 2.0, 'blur_kernel_size': 5, **arguments}
        maps = np.random.default_rng(0).random((50, 64, 48))
        locs, _ = F.heatmap_argmax(maps)
        points, _ = DARKCodec(**arguments).decode(maps)
        border = arguments.get('border', 'clip')
        cells = F.refine_dark(maps, locs, 5, arguments['sigma'], border)
        np.testing.assert_allclose(points[0], 4 * cells, atol=1e-4)

    @pytest.mark.parametrize(
        'arguments', [dict(), dict(smooth=True), dict(corner='ul'), dict(border='symmetric')]
    )
    def test_daec(self, arguments):
        maps = np.random.default_rng(0).random((50, 64, 48))
        locs, _ = F.heatmap_argmax(maps)
        points, _ = DAECCodec(**SIZE, delta=1.5, blur_kernel_size=5, **arguments).decode(maps)
        kernel = 5 if arguments.get('smooth') else 1
        places = {name: arguments[name] for name in ('corner', 'border') if name in arguments}
        cells = F.decode_daec(maps, locs, 2, 1.5, blur_kernel_size=kernel, **places)
        np.testing.assert_allclose(points[0], 4 * cells, atol=1e-4)
