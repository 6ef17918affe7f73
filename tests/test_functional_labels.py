# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Labels, losses and flips against scipy, stock MMPose and float64."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpose.codecs.utils.gaussian_heatmap import generate_gaussian_heatmaps
from mmpose.models.utils import tta
from torch.utils._python_dispatch import TorchDispatchMode

from mmpose_simcc import functional as F


class TestGaussianHeatmaps:
    def test_centred_where_3_sigma_is_not_whole(self):
        """Stock is not, near the left and the upper border."""
        keypoints = np.array([[[2.0, 2.0], [20.0, 30.0]]], np.float32)
        stock, _ = generate_gaussian_heatmaps((48, 64), keypoints, np.ones((1, 2)), 1.5)
        maps, _ = F.gaussian_heatmaps(keypoints[0], (48, 64), 1.5, unbiased=False)
        assert F.heatmap_argmax(maps)[0].tolist() == keypoints[0].tolist()
        assert F.heatmap_argmax(stock)[0].tolist() == [[3, 3], [20, 30]]
        around = maps[1, 30 - 5 : 30 + 6, 20 - 5 : 20 + 6]
        np.testing.assert_array_equal(around, around[::-1, ::-1])

    def test_batched(self):
        points = torch.rand(2, 3, 5, 2) * 20
        maps, reach = F.gaussian_heatmaps(points, (20, 30), 2.0)
        assert maps.shape == (2, 3, 5, 30, 20)
        assert reach.shape == (2, 3, 5)
        torch.testing.assert_close(maps[1, 2], F.gaussian_heatmaps(points[1, 2], (20, 30), 2.0)[0])


coordinates = st.floats(0, 191.5).map(lambda x: round(x, 4))


class TestSimCCLabels:
    @pytest.mark.parametrize('num_bins', [(384, 512), (30, 400)])
    @pytest.mark.parametrize('sigma', [(0.5, 20.0), (6.0, 6.0), (2.0, 9.0)])
    @pytest.mark.parametrize('kind', ['torch', 'numpy'])
    def test_gaussian_is_the_normal_density(self, num_bins, sigma, kind):
        """Also where an axis is shorter than a window of 6.5 sigma."""
        rng = np.random.default_rng(0)
        centers = rng.uniform(-1, 1, (3, 7, 2)) * 20 + [15, 390]
        centers[0, 0] = np.nan, 3.0
        coords = torch.from_numpy(centers) if kind == 'torch' else centers
        labels = F.simcc_gaussian(coords, num_bins, sigma)
        for axis, label in enumerate(labels):
            expected = scipy.stats.norm.pdf(
                np.arange(num_bins[axis]), centers[..., axis, None], sigma[axis]
            )
            np.testing.assert_allclose(label, np.nan_to_num(expected), rtol=1e-6, atol=1e-9)
        assert not labels[0][0, 0].any() and labels[1][0, 0].any()

    @given(x=coordinates, sigma=st.floats(0.5, 20))
    @settings(deadline=None, max_examples=50)
    def test_laplace_is_the_laplace_density(self, x, sigma):
        center = torch.tensor([x], dtype=torch.double)
        (label,) = F.simcc_laplace(center, (384,), (sigma,))
        expected = scipy.stats.laplace.pdf(np.arange(384), x, sigma)
        np.testing.assert_allclose(label, expected, rtol=1e-6, atol=1e-30)

    @pytest.mark.parametrize('smoothing', [0.0, 0.1, 0.5])
    def test_equal(self, smoothing):
        (label,) = F.simcc_equal(torch.tensor([[2.4], [7.6]]), (10,), smoothing)
        assert label.argmax(-1).tolist() == [2, 8]
        torch.testing.assert_close(label.sum(-1), torch.ones(2))
        torch.testing.assert_close(label[0, 2], torch.tensor(1 - smoothing))
        others = torch.cat([label[0, :2], label[0, 3:]])
        torch.testing.assert_close(others, torch.full((9,), smoothing / 9))

    @pytest.mark.parametrize('kind', ['torch', 'numpy'])
    def test_whole_coordinates_of_any_dtype(self, kind):
        """Labels are fractions; the coordinates need not be."""
        whole = np.array([[2, 3], [0, 7]])
        whole, same = whole, whole.astype(np.float32)
        if kind == 'torch':
            whole, same = torch.from_numpy(whole), torch.from_numpy(same)
        for labels in (
            lambda coords: F.simcc_equal(coords, (10, 12), 0.1),
            lambda coords: F.simcc_gaussian(coords, (10, 12), (2.0, 2.0)),
            lambda coords: F.simcc_laplace(coords, (10, 12), (2.0, 2.0)),
            lambda coords: F.gaussian_heatmaps(coords, (10, 12), 2.0)[:1],
            lambda coords: F.gaussian_heatmaps(coords, (10, 12), 2.0, unbiased=False)[:1],
            lambda coords: F.udp_heatmaps(coords, (10, 12), 2.0)[:1],
        ):
            for label, expected in zip(labels(whole), labels(same)):
                np.testing.assert_array_equal(label, expected)
                assert (label > 0).any()

    def test_inside(self):
        coords = torch.tensor([-1.0, -0.6, -0.4, 0.0, 9.0, 9.4, 9.6, 1e9, float('nan')])
        expected = [False, False, True, True, True, True, False, False, False]
        assert F.simcc_inside(coords[:, None], (10,)).tolist() == expected
        both = torch.stack([coords, torch.full_like(coords, 3.0)], -1)
        assert F.simcc_inside(both, (10, 4)).tolist() == expected
        assert not F.simcc_inside(both, (10, 3)).any()


class TestKLDivergence:
    @pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
    def test_equals_float64(self, dtype):
        generator = torch.Generator().manual_seed(0)
        logits = (torch.randn(3, 5, 40, generator=generator) * 8).to(dtype)
        labels = torch.rand(3, 5, 40, generator=generator)
        labels[0] = 0  # an unused keypoint
        (labels[1, 0],) = F.simcc_equal(torch.tensor([7.0]), (40,), 0.0)
        log_p = scipy.special.log_softmax(logits.double().numpy(), axis=-1)
        t = labels.double().numpy()
        expected = (scipy.special.xlogy(t, t) - t * log_p).sum(-1)
        actual = F.kl_divergence(logits, labels)
        assert actual.dtype == torch.float32
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-5)

    def test_edges(self):
        """No samples, one vector, and logits of -inf, which only matter where a label is."""
        assert F.kl_divergence(torch.zeros(0, 3, 4), torch.zeros(0, 3, 4)).shape == (0, 3)
        label = torch.tensor([0.25, 0.75, 0.0])
        logits = torch.tensor([0.0, 1.0, -torch.inf], requires_grad=True)
        loss = F.kl_divergence(logits, label)
        assert loss.shape == ()
        p = scipy.special.softmax([0.0, 1.0])
        assert loss.item() == pytest.approx(scipy.stats.entropy([0.25, 0.75], p), abs=1e-6)
        loss.backward()
        np.testing.assert_allclose(logits.grad, [*(p - (0.25, 0.75)), 0], atol=1e-6)
        assert F.kl_divergence(logits, label.flip(0)) == torch.inf

    def test_large_logits(self):
        logits = torch.full((1, 4), -1e4, dtype=torch.float16)
        logits[0, 1] = 1e4
        loss = F.kl_divergence(logits, torch.eye(4)[[0]])
        assert loss.item() == pytest.approx(2e4)

    def test_gradient(self):
        labels = torch.rand(2, 3, 7).double()
        logits = torch.randn(2, 3, 7, dtype=torch.double, requires_grad=True)
        (actual,) = torch.autograd.grad(F.kl_divergence(logits, labels).sum(), logits)
        expected = logits.softmax(-1) * labels.sum(-1, keepdim=True) - labels
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


class TestFlip:
    @pytest.mark.parametrize('w, k', [(64, 1), (64, 1.5), (65, 1.5), (63, 1.7), (64, 2), (64, 3)])
    @pytest.mark.parametrize('shift', [False, True])
    def test_undoes_a_mirrored_image(self, w, k, shift):
        """Vectors of the mirrored image peak where the image's do, also if w k is not whole."""
        num_bins = round(w * k)
        x = torch.tensor([[10.25, 40.0]])
        mirrored = w - x if shift else w - 1 - x

        def logits(x):
            offsets = torch.arange(num_bins) - x.unsqueeze(-1) * k
            return -(offsets**2) / 32  # a Gaussian's log

        vectors = logits(mirrored)
        flipped, _ = F.flip_simcc(vectors, torch.zeros(1, 2, 9), [1, 0], k, shift)
        expected = logits(x[:, [1, 0]])
        inner = slice(math.ceil(k), int((w - 1) * k))
        torch.testing.assert_close(flipped[..., inner], expected[..., inner], atol=0.02, rtol=1e-3)

    @pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
    def test_makes_no_float64(self, dtype):
        """Of which MPS has none."""
        made = set()

        class Dtypes(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                result = func(*args, **(kwargs or {}))
                made.add(getattr(result, 'dtype', None))
                return result

        x, y = torch.randn(1, 2, 96, dtype=dtype), torch.randn(1, 2, 128, dtype=dtype)
        with Dtypes():
            flipped, _ = F.flip_simcc(x, y, [1, 0], 1.5, shift=True)
        assert flipped.dtype == dtype
        assert dtype in made and torch.float64 not in made

    def test_swaps_keypoints(self):
        y = torch.arange(6.0).view(1, 3, 2)
        _, flipped_y = F.flip_simcc(torch.zeros(1, 3, 4), y, [2, 1, 0], 2, shift=True)
        assert torch.equal(flipped_y, y.flip(1))

    def test_stock_is_mmposes(self):
        x, y = torch.randn(2, 3, 4), torch.randn(2, 3, 5)
        mirrored = torch.randn(2, 3, 4), torch.randn(2, 3, 5)
        swap = [1, 0, 2]
        mean = F.average_flip((x, y), mirrored, swap, 'stock', split_ratio=2)
        expected = tuple((v + f) / 2 for v, f in zip((x, y), tta.flip_vectors(*mirrored, swap)))
        torch.testing.assert_close(mean, expected)
        maps, mirrored = torch.randn(2, 2, 3, 4, 5).unbind()
        for use_udp in (False, True):
            mean = F.average_flip(maps, mirrored, swap, 'stock', use_udp)
            flipped = tta.flip_heatmaps(mirrored, swap, shift_heatmap=not use_udp)
            torch.testing.assert_close(mean, (maps + flipped) / 2)

    @pytest.mark.parametrize('use_udp', [False, True])
    @pytest.mark.parametrize('flip', ['stock', 'exact'])
    def test_images(self, flip, use_udp):
        """The exact flip has pixel x at w - x of a plain crop, all others at w - 1 - x."""
        image = torch.arange(6.0).view(1, 1, 1, 6)
        last = 6 if flip == 'exact' and not use_udp else 5
        mirrored = F.mirror_images(image, flip, use_udp)
        assert mirrored.tolist() == [[[[min(last - x, 5) for x in range(6)]]]]

    def test_none(self):
        maps = torch.randn(1, 1, 2, 2)
        assert F.average_flip(maps, None, [0], 'none') is maps

    def test_wrong_input(self):
        with pytest.raises(ValueError, match="`flip` must be .*'exact'.* got 'exakt'"):
            F.average_flip(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), [0], 'exakt')
        with pytest.raises(ValueError, match=r'`outputs` must be heatmaps.*got \[\(1, 1, 2\)\]'):
            F.average_flip(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), [0])
