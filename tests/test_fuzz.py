# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Bad input, tried on purpose: no crash, no NaN, no silent wrong answer.

What codecs give is compared with the papers' formulas, written down here for
one map at a time, with loops, in float64.
"""

import math
import re

import cv2
import numpy as np
import pytest
import torch
from conftest import cuda
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmpose_simcc import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec
from mmpose_simcc.codecs.heatmap import BaseHeatmapCodec

fuzz = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32 - 1)

# --- heatmaps ---------------------------------------------------------------

MAP_KINDS = (
    'noise',
    'gaussian',
    'nan',
    'one nan',
    'inf',
    'one inf',
    '-inf',
    'some -inf',
    'zeros',
    'one cell',
    'one number',
    'negative',
    'constant',
    'border',
    'corner',
    'ties',
    'huge',
    'tiny',
)


def make_map(kind, rng, H, W):
    """A heatmap of a kind, float64, shape (H, W)."""
    x, y = rng.integers(W), rng.integers(H)
    if kind == 'border':
        side = rng.integers(4)
        x, y = ((x, 0), (x, H - 1), (0, y), (W - 1, y))[side]
    if kind == 'corner':
        x, y = rng.choice([0, W - 1]), rng.choice([0, H - 1])
    values = rng.random((H, W)) * 0.5
    if kind in ('gaussian', 'border', 'corner', 'huge', 'tiny'):
        squares = (np.arange(W) - x) ** 2 + (np.arange(H)[:, None] - y) ** 2
        values = np.exp(-squares / 8) + 0.05 * values
        values[y, x] = 1.5
    if kind == 'huge':
        values *= 1e30
    elif kind == 'tiny':
        values *= 1e-30
    elif kind == 'negative':
        values = -values - 0.1
    elif kind == 'ties':
        values = rng.integers(0, 3, (H, W)).astype(float)
    elif kind == 'some -inf':
        values[rng.random((H, W)) < 0.3] = -np.inf
    elif kind in ('nan', 'inf', '-inf'):
        values[:] = float(kind)
    elif kind in ('one nan', 'one inf'):
        values[y, x] = float(kind[4:])
    elif kind == 'zeros':
        values[:] = 0
    elif kind == 'constant':
        values[:] = 0.7
    elif kind == 'one cell':
        values[:] = 0
        values[y, x] = 1
    elif kind == 'one number':
        values[:] = np.nan
        values[y, x] = 1
    return values


def make_maps(seed, H, W, per_kind=3):
    """Maps of all kinds in any order, shape (K, H, W)."""
    rng = np.random.default_rng(seed)
    maps = [make_map(kind, rng, H, W) for kind in MAP_KINDS * per_kind]
    return np.stack([maps[i] for i in rng.permutation(len(maps))])


def plain_argmax(values):
    """(x, y) of the first maximum; None where there is no positive finite
    one."""
    best = None
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if math.isnan(value) or value == math.inf:
                return None
            if value > 0 and (best is None or value > values[best[1]][best[0]]):
                best = x, y
    return best


def plain_quarter(values, x, y):
    H, W = values.shape
    dx = dy = 0.0
    if 1 < x < W - 1 and y > 0:
        dx = 0.25 * np.sign(values[y, x + 1] - values[y, x - 1])
    if 1 < y < H - 1 and x > 0:
        dy = 0.25 * np.sign(values[y + 1, x] - values[y - 1, x])
    return [x + np.nan_to_num(dx), y + np.nan_to_num(dy)]


def plain_second_max(values, x, y):
    others = values.copy()
    others[y, x] = -np.inf
    y2, x2 = divmod(int(np.argmax(others)), values.shape[1])
    if others[y2, x2] == -np.inf:
        return [x, y]
    distance = math.hypot(x2 - x, y2 - y)
    return [x + 0.25 * (x2 - x) / distance, y + 0.25 * (y2 - y) / distance]


def plain_dark(values, x, y, kernel_size, sigma):
    """Eq. 9 and 10, and the maximum where the map is not like a Gaussian. Also whether float32
    can tell."""
    H, W = values.shape
    if not (1 < x < W - 2 and 1 < y < H - 2):
        return [x, y], True
    kernel = cv2.getGaussianKernel(kernel_size, -1)
    with np.errstate(all='ignore'):
        blurred = cv2.sepFilter2D(
            values, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT
        )
        log = np.log(np.maximum(blurred, 1e-10))
        # (row, column), as arrays are
        gradient = [(log[y, x + 1] - log[y, x - 1]) / 2, (log[y + 1, x] - log[y - 1, x]) / 2]
        dxx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
        dyy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
        dxy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    hessian = np.array([[dxx, dxy], [dxy, dyy]])
    if not np.isfinite(hessian).all() or not np.isfinite(gradient).all():
        return [x, y], False
    if abs(np.linalg.det(hessian)) < 1e-3:
        return [x, y], False
    step = -np.linalg.solve(hessian, gradient)
    sure = abs(abs(step).max() - sigma) > 1e-3 and abs(dxx) > 1e-4
    if np.linalg.eigvalsh(hessian).max() > 0 or abs(step).max() > sigma:
        return [x, y], sure
    return np.clip([x + step[0], y + step[1]], 0, [W - 1, H - 1]), sure


def plain_daec(values, x, y, sigma, delta, border):
    H, W = values.shape
    e = int(3 * sigma + 1)
    total = np.zeros(3)

    def cells(m, size):
        for cell in range(max(0, m - e), min(size - 1, m + e - delta) + 1):
            if border == 'clip' or 0 <= 2 * m - cell < size:
                yield cell

    for row in cells(y, H):
        for column in cells(x, W):
            weight = max(values[row, column], 1e-10)
            total += weight, weight * column, weight * row
    return [x, y] if total[0] == 0 else list(total[1:] / total[0])


class TestHeatmapDecoders:
    """Of 54 maps in each example."""

    @fuzz
    @given(
        seed=seeds,
        W=st.integers(1, 14),
        H=st.integers(1, 14),
        refine=st.sampled_from(['none', 'quarter', 'second_max', 'dark', 'daec']),
        sigma=st.sampled_from([0.4, 1, 2.0]),
        kernel=st.sampled_from([1, 3, 11]),
        delta=st.integers(-2, 8),
        border=st.sampled_from(['clip', 'symmetric']),
        dtype=st.sampled_from(['float32', 'float64']),
        batched=st.booleans(),
    )
    # a map of one number and -inf
    @example(
        seed=1,
        W=1,
        H=2,
        refine='second_max',
        sigma=1,
        kernel=1,
        delta=0,
        border='clip',
        dtype='float32',
        batched=False,
    )
    def test_equal_the_formulas(
        self, seed, W, H, refine, sigma, kernel, delta, border, dtype, batched
    ):
        if refine == 'second_max' and W * H == 1:
            return  # see test_one_cell
        size = dict(input_size=(W * 4, H * 4), heatmap_size=(W, H), sigma=sigma)
        codec = dict(
            dark=lambda: DARKCodec(**size, blur_kernel_size=kernel),
            daec=lambda: DAECCodec(**size, delta=delta, border=border),
        ).get(refine, lambda: HeatmapCodec(**size, refine=refine))()
        maps = make_maps(seed, H, W).astype(dtype)
        if batched:
            (points,), (scores,) = codec.batch_decode(torch.from_numpy(maps)[None])
        else:
            points, scores = codec.decode(maps)
        assert points.shape == (1, len(maps), 2)
        assert np.isfinite(points).all() and np.isfinite(scores).all()
        for values, point, score in zip(maps.astype(float), points[0] / 4, scores[0]):
            best = plain_argmax(values)
            if best is None:
                assert score == 0
                assert (point >= 0).all() and (point < (W, H)).all()
                continue
            x, y = best
            assert score == pytest.approx(values[y, x], rel=1e-6)
            exact, usable = [x, y], True
            if refine == 'quarter':
                exact = plain_quarter(values, x, y)
            elif refine == 'second_max':
                exact = plain_second_max(values, x, y)
            elif refine == 'dark':
                exact, usable = plain_dark(values, x, y, kernel, sigma)
                # next to 1e-10 float32 has few digits; -inf has no blur
                usable &= values[y, x] > 1e-9 and np.isfinite(values).all()
            elif refine == 'daec':
                exact = plain_daec(values, x, y, sigma, delta, border)
            if usable:
                np.testing.assert_allclose(point, exact, rtol=1e-3, atol=2e-3)

    @fuzz
    @given(
        seed=seeds,
        K=st.sampled_from([1, 17, 133]),
        B=st.integers(0, 3),
        layout=st.integers(0, 5),
        dtype=st.sampled_from(['float16', 'bfloat16', 'float32', 'float64']),
    )
    def test_layouts_and_dtypes(self, seed, K, B, layout, dtype):
        """Equal to a plain float32 copy of the same values."""
        codecs = [codec((48, 64), (12, 16), 2) for codec in (HeatmapCodec, DARKCodec, DAECCodec)]
        rng = np.random.default_rng(seed)
        # noise alone has singular Hessians
        x, y = rng.uniform(0, (12, 16), (B, K, 2)).T[..., None, None]
        squares = (np.arange(12) - x) ** 2 + (np.arange(16)[:, None] - y) ** 2
        maps = np.exp(-squares / 8).swapaxes(0, 1)
        maps += 0.01 * rng.random((B, K, 16, 12))
        maps = in_layout(torch.from_numpy(maps).to(getattr(torch, dtype)), layout)
        for codec in codecs:
            same_results(codec, (maps,), 1e-5 if dtype == 'float64' else 0)


def in_layout(tensor, layout):
    """The values of a tensor of 4 or 3 dimensions, laid out in memory in
    another way, or with a graph behind them."""
    if layout == 1:
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == 2:
        return tensor.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == 3:
        wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), math.nan, dtype=tensor.dtype)
        wide[..., 1::2] = tensor
        return wide[..., 1::2]
    if layout == 4:
        return tensor[:, :1].expand_as(tensor)
    if layout == 5:
        return tensor.clone().requires_grad_()
    return tensor


def same_results(codec, tensors, tolerance):
    before = [tensor.detach().clone() for tensor in tensors]
    plain = [tensor.detach().float().contiguous() for tensor in tensors]
    expected = codec.batch_decode(*plain)
    for actual in (codec.batch_decode(*tensors), codec.decode_tensors(*tensors)):
        for values, others in zip(actual, expected):
            assert len(values) == len(others)
            for value, other in zip(values, others):
                if isinstance(value, torch.Tensor):
                    value = value.detach()[None]
                np.testing.assert_allclose(value, other, atol=max(tolerance, 1e-3), rtol=1e-3)
    # the input stays what it was
    for tensor, copy in zip(tensors, before):
        assert torch.equal(tensor, copy)


@cuda
@fuzz
@given(
    seed=seeds,
    layout=st.integers(0, 4),
    dtype=st.sampled_from(['float16', 'bfloat16', 'float32', 'float64']),
)
def test_cuda_gives_what_the_cpu_does(seed, layout, dtype):
    size = dict(input_size=(48, 64), heatmap_size=(12, 16), sigma=2)
    maps = torch.from_numpy(make_maps(seed, 16, 12)[None]).to(getattr(torch, dtype))
    # noise has singular Hessians, whose steps no two devices agree on
    maps = in_layout(maps, layout)
    for codec in (HeatmapCodec(**size), DAECCodec(**size)):
        for one, other in zip(codec.batch_decode(maps.cuda()), codec.batch_decode(maps)):
            np.testing.assert_allclose(one, other, atol=1e-3, rtol=1e-3)


# --- SimCC ------------------------------------------------------------------

VECTOR_KINDS = (
    'noise',
    'peak',
    'nan',
    'one nan',
    'inf',
    'one inf',
    '-inf',
    'some -inf',
    'zeros',
    'constant',
    'negative',
    'first',
    'last',
    'ties',
    'huge',
    'tiny',
    'far',
)


def make_vectors(seed, L, per_kind=3):
    """Logits of all kinds in any order, shape (K, L)."""
    rng = np.random.default_rng(seed)
    vectors = []
    for kind in VECTOR_KINDS * per_kind:
        at = dict(first=0, last=L - 1).get(kind, rng.integers(L))
        values = rng.standard_normal(L)
        if kind in ('peak', 'first', 'last', 'far', 'huge'):
            values -= (np.arange(L) - at) ** 2 / 8
            values[at] += 5
        if kind == 'huge':
            values *= 1e4
        elif kind == 'tiny':
            values *= 1e-3
        elif kind == 'far':
            values += rng.choice([-1e3, 1e3])
        elif kind == 'negative':
            values = -abs(values) - 50
        elif kind == 'ties':
            values = rng.integers(0, 2, L).astype(float)
        elif kind == 'some -inf':
            values[rng.random(L) < 0.5] = -np.inf
        elif kind in ('nan', 'inf', '-inf'):
            values[:] = float(kind)
        elif kind in ('one nan', 'one inf'):
            values[at] = float(kind[4:])
        elif kind in ('zeros', 'constant'):
            values[:] = 0 if kind == 'zeros' else -3.5
        vectors.append(values)
    return np.stack([vectors[i] for i in rng.permutation(len(vectors))])


def plain_perfect_mass(smoothing, sigma, num_bins, radius):
    """The probability around the peak of a perfect prediction in the middle of the axis."""
    offsets = np.arange(num_bins) - num_bins // 2
    label = np.where(offsets == 0, 0.9, 0.1 / (num_bins - 1))
    if smoothing == 'gaussian':
        label = np.exp(-(offsets**2) / (2 * sigma**2))
    elif smoothing == 'laplace':
        label = np.exp(-abs(offsets) / sigma)
    elif smoothing == 'none':
        label = offsets == 0
    return label[abs(offsets) <= radius].sum() / label.sum()


def plain_vector(values, radius, perfect):
    """Bin and score along one axis; score None where it cannot be decoded."""
    best = max(values)
    if not math.isfinite(best) or np.isnan(values).any() or min(values) == best:
        return None, None
    probabilities = np.exp(values - best)
    at = int(np.argmax(values))
    mass = probabilities[max(0, at - radius) : at + radius + 1].sum()
    return at, min(1, mass / probabilities.sum() / perfect)


class TestSimCCDecoder:
    @fuzz
    @given(
        seed=seeds,
        w=st.integers(2, 30),
        h=st.integers(2, 30),
        k=st.sampled_from([1, 1.5, 2, 2.7]),
        smoothing=st.sampled_from(['none', 'equal', 'gaussian', 'laplace']),
        refine=st.sampled_from(['none', 'dark', 'daec']),
        sigma=st.sampled_from([1.0, 2.0, 6]),
        dtype=st.sampled_from(['float32', 'float64']),
        batched=st.booleans(),
    )
    def test_equals_the_formulas(self, seed, w, h, k, smoothing, refine, sigma, dtype, batched):
        codec = SimCCCodec((w, h), k, smoothing, sigma, refine=refine)
        x = make_vectors(seed, round(w * k)).astype(dtype)
        y = make_vectors(seed + 1, round(h * k)).astype(dtype)
        if batched:
            (points,), (scores,) = codec.batch_decode(
                torch.from_numpy(x)[None], torch.from_numpy(y)[None]
            )
        else:
            points, scores = codec.decode(x, y)
        assert points.shape == (1, len(x), 2)
        # never off the image, whatever is refined
        assert (points >= 0).all()
        assert (points <= (np.array(codec.num_bins) - 1) / k + 1e-4).all()
        assert (scores >= 0).all() and (scores <= 1).all()
        radius = math.ceil(k)
        masses = [plain_perfect_mass(smoothing, sigma, n, radius) for n in codec.num_bins]
        for i in range(len(x)):
            bins, found = zip(
                *(plain_vector(v[i].astype(float), radius, mass) for v, mass in zip((x, y), masses))
            )
            if None in bins:
                assert scores[0, i] == 0
            else:
                assert scores[0, i] == pytest.approx(min(found), rel=2e-3)
            for axis in range(2):
                if bins[axis] is None:
                    continue
                reach = dict(none=1e-3, daec=3 * sigma + 1, dark=sigma + 1e-4)[refine]
                assert abs(points[0, i, axis] * k - bins[axis]) <= reach

    @fuzz
    @given(
        seed=seeds,
        K=st.sampled_from([1, 17, 133]),
        B=st.integers(0, 3),
        layout=st.integers(0, 5),
        dtype=st.sampled_from(['float16', 'bfloat16', 'float32', 'float64']),
    )
    def test_layouts_and_dtypes(self, seed, K, B, layout, dtype):
        generator = torch.Generator().manual_seed(seed)
        logits = [
            in_layout(
                torch.randn(B, K, bins, generator=generator).to(getattr(torch, dtype)), layout
            )
            for bins in (96, 128)
        ]
        for refine in ('none', 'daec'):
            same_results(SimCCCodec((48, 64), refine=refine), logits, 0)


# --- labels -----------------------------------------------------------------

coordinates = st.one_of(
    st.floats(-30, 90, width=32),
    st.sampled_from(
        [
            math.nan,
            math.inf,
            -math.inf,
            0.0,
            -0.0,
            47.9,
            47.5,
            47.0,
            48.0,
            63.5,
            63.9,
            64.0,
            1e9,
            -1e9,
            1e30,
            3e38,
            -3e38,
            1e-40,
            -0.5,
            -0.6,
            -1e-6,
        ]
    ),
)


@st.composite
def people(draw, numbers=(0, 1, 1, 2, 3)):
    """Keypoints (N, K, 2) and visibilities (N, K)."""
    N = draw(st.sampled_from(numbers))
    K = draw(st.sampled_from([1, 2, 17, 133]))
    pool = draw(st.lists(coordinates, min_size=4, max_size=40))
    rng = np.random.default_rng(draw(seeds))
    keypoints = rng.choice(np.array(pool, np.float32), (N, K, 2))
    visible = rng.choice(
        draw(st.sampled_from([(0.0,), (1.0,), (0.0, 1.0), (0.0, 0.4, 0.5, 1.0, 2.0)])), (N, K)
    ).astype(np.float32)
    return keypoints, visible


class TestLabels:
    @fuzz
    @given(
        people=people(numbers=(1,)), unbiased=st.booleans(), sigma=st.sampled_from([0.5, 2.0, 3])
    )
    def test_heatmaps(self, people, unbiased, sigma):
        keypoints, visible = people
        codec = HeatmapCodec((48, 64), (12, 16), sigma, unbiased)
        encoded = codec.encode(keypoints, visible)
        heatmaps, weights = encoded['heatmaps'], encoded['keypoint_weights']
        N, K = visible.shape
        assert heatmaps.shape == (K, 16, 12) and weights.shape == (N, K)
        assert np.isfinite(heatmaps).all() and np.isfinite(weights).all()
        exact = np.zeros((K, 16, 12))
        for n in range(N):
            for k in range(K):
                u, v = (float(c) / 4 for c in keypoints[n, k])
                if not unbiased and math.isfinite(u) and math.isfinite(v):
                    u, v = (float(math.trunc(c + 0.5)) for c in (u, v))
                inside = all(
                    -3 * sigma - 1 <= c < size + 3 * sigma for c, size in ((u, 12), (v, 16))
                )
                labelled = visible[n, k] >= 0.5
                if not labelled:
                    assert weights[n, k] == visible[n, k]
                    continue
                assert weights[n, k] == (visible[n, k] if inside else 0)
                if not inside:
                    continue
                for y in range(16):
                    for x in range(12):
                        squares = (x - u) ** 2 + (y - v) ** 2
                        value = math.exp(-squares / (2 * sigma**2))
                        reach = max(abs(x - u), abs(y - v))
                        if not unbiased and reach > 3 * sigma:
                            value = 0.0
                        exact[k, y, x] = max(exact[k, y, x], value)
        np.testing.assert_allclose(heatmaps, exact, atol=1e-5)

    @fuzz
    @given(
        people=people(),
        smoothing=st.sampled_from(['none', 'equal', 'gaussian', 'laplace']),
        k=st.sampled_from([1, 1.5, 2, 3]),
    )
    def test_simcc(self, people, smoothing, k):
        keypoints, visible = people
        codec = SimCCCodec((48, 64), k, smoothing)
        encoded = codec.encode(keypoints, visible)
        weights = encoded['keypoint_weights']
        assert weights.shape == visible.shape and np.isfinite(weights).all()
        for n, person in enumerate(keypoints.astype(float)):
            for i, point in enumerate(person):
                bins = point * k
                inside = all(-0.5 <= b < size * k - 0.5 for b, size in zip(bins, (48, 64)))
                labelled = visible[n, i] >= 0.5
                used = inside or not labelled  # a label of zeros costs nothing
                assert weights[n, i] == (visible[n, i] if used else 0)
                for axis, name in enumerate('xy'):
                    label = encoded[f'keypoint_{name}_labels'][n, i]
                    if not (inside and labelled):
                        assert not label.any()
                        continue
                    exact = plain_label(bins[axis], codec.num_bins[axis], smoothing)
                    np.testing.assert_allclose(label, exact, atol=1e-5)


def plain_label(center, num_bins, smoothing, sigma=6.0):
    offsets = np.arange(num_bins) - center
    if smoothing == 'gaussian':
        return np.exp(-(offsets**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    if smoothing == 'laplace':
        return np.exp(-abs(offsets) / sigma) / (2 * sigma)
    part = 0.1 if smoothing == 'equal' else 0.0
    label = np.full(num_bins, part / (num_bins - 1))
    label[round(center)] = 1 - part
    return label


# --- wrong arguments --------------------------------------------------------

numbers = st.one_of(
    st.integers(-5, 40),
    st.floats(-10, 60),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e-300, -1e300]),
    st.sampled_from([np.float32(2), np.int64(3), np.float16(1), np.bool_(1)]),
)
anything = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.text(max_size=6),
    st.binary(max_size=4),
    st.lists(numbers, max_size=4),
    st.tuples(numbers, numbers),
    st.dictionaries(st.text(max_size=3), numbers, max_size=2),
    st.sampled_from(
        [
            'none',
            'dark',
            'daec',
            'quarter',
            'equal',
            'gaussian',
            'br',
            'ul',
            'empirical',
            'symmetric',
            'softmax',
            'logit',
            'no.json',
            1j,
            object,
            ...,
            np.zeros((2, 2)),
            np.zeros(3),
            torch.zeros(2),
            torch.tensor(2.0),
            slice(3),
            {1, 2},
        ]
    ),
)
HEATMAP = dict(input_size=(48, 64), heatmap_size=(12, 16), sigma=2)
ARGUMENTS = {
    HeatmapCodec: [*HEATMAP, 'unbiased', 'blur_kernel_size', 'refine'],
    DARKCodec: [*HEATMAP, 'unbiased', 'blur_kernel_size'],
    DAECCodec: [*HEATMAP, 'unbiased', 'blur_kernel_size', 'delta', 'corner', 'smooth', 'border'],
    SimCCCodec: [
        'input_size',
        'simcc_split_ratio',
        'label_smoothing',
        'sigma',
        'smoothing',
        'refine',
        'blur_kernel_size',
        'delta',
        'score',
    ],
}


class TestArguments:
    @pytest.mark.parametrize(
        'codec,name', [(codec, name) for codec, names in ARGUMENTS.items() for name in names]
    )
    @settings(
        deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(value=anything)
    def test_one_clear_error_or_a_codec_that_works(self, codec, name, value):
        arguments = dict(input_size=(48, 64)) if codec is SimCCCodec else dict(HEATMAP)
        try:
            built = codec(**{**arguments, name: value})
        except ValueError as error:
            assert re.match(f'`{name}` (must be|file) ', str(error)), error
            return
        keypoints = np.array([[[10.0, 20.0], [np.nan, 5], [60, 3], [47, 63]]])
        encoded = built.encode(keypoints)
        assert np.isfinite(encoded['keypoint_weights']).all()
        shapes = (
            [(4, bins) for bins in built.num_bins]
            if codec is SimCCCodec
            else [(4, *built.heatmap_size[::-1])]
        )
        outputs = [np.random.default_rng(0).random(shape, np.float32) for shape in shapes]
        try:
            points, scores = built.decode(*outputs)
        except ValueError as error:
            # factors of other keypoints than these four
            assert name == 'delta' and '4 keypoints' in str(error)
            return
        assert np.isfinite(points).all() and np.isfinite(scores).all()


CODECS = [
    HeatmapCodec(**HEATMAP),
    DARKCodec(**HEATMAP),
    DAECCodec(**HEATMAP),
    SimCCCodec((48, 64)),
    SimCCCodec((48, 64), refine='dark'),
]
shapes = st.lists(st.sampled_from([0, 1, 2, 12, 16, 96, 128]), max_size=5).filter(
    lambda shape: math.prod(shape) < 1e5
)
dtypes = st.sampled_from(
    [
        torch.uint8,
        torch.int64,
        torch.bool,
        torch.complex64,
        torch.float16,
        torch.float32,
        torch.float64,
    ]
)


class TestWrongTensors:
    @settings(deadline=None, max_examples=300)
    @given(codec=st.sampled_from(CODECS), shape=shapes, dtype=dtypes, at=st.integers(0, 1))
    def test_decode(self, codec, shape, dtype, at):
        right = [(2, 3, 96), (2, 3, 128)] if isinstance(codec, SimCCCodec) else [(2, 3, 16, 12)]
        names = ['simcc_x', 'simcc_y'] if len(right) == 2 else ['heatmaps']
        at = at % len(right)
        tensors = [torch.zeros(s) for s in right]
        tensors[at] = torch.zeros(shape).to(dtype)
        if tuple(shape) in right[at : at + 1] and dtype.is_floating_point:
            codec.batch_decode(*tensors)
            return
        # heatmaps of any batch are right, two vectors of one have to agree
        if (
            len(right) == 1
            and tuple(shape[2:]) == (16, 12)
            and len(shape) == 4
            and dtype.is_floating_point
        ):
            assert len(codec.batch_decode(*tensors)[0]) == shape[0]
            return
        for call in (lambda: codec.batch_decode(*tensors), lambda: codec.decode_tensors(*tensors)):
            with pytest.raises(
                ValueError, match='^`(simcc_[xy]|heatmaps)` must be .* but got'
            ) as info:
                call()
            assert any(name in str(info.value) for name in names)

    @settings(deadline=None, max_examples=300)
    @given(
        codec=st.sampled_from(CODECS),
        shape=st.lists(st.sampled_from([0, 1, 2, 3, 17]), max_size=4),
        dtype=st.sampled_from(
            [
                'float16',
                'float64',
                'int32',
                'uint8',
                'bool',
                'complex64',
                'object',
                'U3',
                'S3',
                'datetime64[s]',
            ]
        ),
        visible=st.booleans(),
    )
    def test_encode(self, codec, shape, dtype, visible):
        wrong = np.zeros(shape).astype(dtype)
        right = len(shape) == (2 if visible else 3) and dtype in (
            'float16',
            'float64',
            'int32',
            'uint8',
            'bool',
            'object',
        )
        if visible:
            right = right and tuple(shape) == (1, 17)
            arguments = (np.zeros((1, 17, 2)), wrong)
        else:
            right = right and shape[-1] == 2
            if isinstance(codec, BaseHeatmapCodec):  # one instance a sample
                right = right and shape[0] == 1
            arguments = (wrong,)
        if right:
            encoded = codec.encode(*arguments)
            assert np.isfinite(encoded['keypoint_weights']).all()
            return
        name = 'keypoints_visible' if visible else 'keypoints'
        with pytest.raises(ValueError, match=f'^`{name}` must be .* but got'):
            codec.encode(*arguments)

    @pytest.mark.parametrize('codec', CODECS, ids=lambda c: type(c).__name__)
    @pytest.mark.parametrize(
        'wrong',
        [None, 'map', 3.0, [[1, 2], [3]], np.zeros((1, 2, 16, 12), np.float32)],
        ids=lambda wrong: type(wrong).__name__,
    )
    def test_no_tensor_at_all(self, codec, wrong):
        arguments = (wrong,) * (2 if isinstance(codec, SimCCCodec) else 1)
        with pytest.raises(ValueError, match='must be a tensor'):
            codec.batch_decode(*arguments)

    @pytest.mark.parametrize('codec', CODECS, ids=lambda c: type(c).__name__)
    def test_visibility_is_a_number(self, codec):
        with pytest.raises(ValueError, match='`keypoints_visible` must be'):
            codec.encode(np.ones((1, 2, 2)), np.array([[1.0, np.nan]]))

    def test_one_cell_has_no_second_maximum(self):
        with pytest.raises(ValueError, match='`heatmap_size` must be'):
            HeatmapCodec((4, 4), (1, 1), 2, refine='second_max')
