# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Codecs give the same answers in numpy and torch, on every device, compiled, exported and under
autocast, and leave nothing behind in the process."""

import numpy as np
import pytest
import torch
from conftest import cuda
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmpose_simcc import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec, SimCCKLLoss

SIZE = dict(input_size=(192, 256))
HEATMAP = dict(**SIZE, heatmap_size=(48, 64), sigma=2)
CODECS = {
    'argmax': HeatmapCodec(**HEATMAP, refine='none'),
    'quarter': HeatmapCodec(**HEATMAP),
    'second_max': HeatmapCodec(**HEATMAP, refine='second_max'),
    'dark': DARKCodec(**HEATMAP),
    'dark_symmetric': DARKCodec(**HEATMAP, use_udp=True, border='symmetric'),
    'daec': DAECCodec(**HEATMAP),
    'daec_smooth': DAECCodec(**HEATMAP, smooth=True, delta=[-1.5, 2], border='symmetric'),
    'daec_keypoints': DAECCodec(**HEATMAP, delta=[[0.1 * k, 2] for k in range(17)]),
    'simcc': SimCCCodec(**SIZE, label_smoothing='laplace', beta=2.0),
    'simcc_maximum': SimCCCodec(**SIZE, label_smoothing='none', score='maximum'),
    'simcc_dark': SimCCCodec(**SIZE, refine='dark', border='symmetric'),
    'simcc_daec': SimCCCodec(**SIZE, label_smoothing='equal', refine='daec', delta=(1.5, -2)),
}


def outputs_of(codec, batch=4):
    """Network outputs with noise, some of them not finite."""
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 191, (batch, 17, 2)).astype(np.float32)
    encoded = codec.encode_tensors(keypoints[:, None], np.ones((batch, 1, 17), np.float32))
    if isinstance(codec, SimCCCodec):
        labels = [encoded[f'keypoint_{axis}_labels'][:, 0] for axis in 'xy']
        maps = [np.log(m.clip(1e-4)) for m in labels]  # logits
    else:
        maps = [encoded['heatmaps']]
    maps = [m + 0.02 * rng.standard_normal(m.shape).astype(np.float32) for m in maps]
    for m in maps:
        m[0, 0], m[1, 1], m[2, 2] = np.nan, np.inf, 0.0
        m[3, 3, 5] = -np.inf
    return [torch.from_numpy(m) for m in maps]


@pytest.mark.parametrize('name', CODECS)
class TestNumpyAndTorch:
    def test_decode(self, name):
        codec = CODECS[name]
        outputs = outputs_of(codec)
        keypoints, scores = codec.decode_tensors(*outputs)
        batch_keypoints, batch_scores = codec.batch_decode(*outputs)
        np.testing.assert_allclose(np.concatenate(batch_keypoints), keypoints, atol=4e-3)
        np.testing.assert_allclose(np.concatenate(batch_scores), scores, atol=1e-5)
        one, score = codec.decode(*(item[1].numpy() for item in outputs))
        np.testing.assert_allclose(one, batch_keypoints[1], atol=1e-4)
        np.testing.assert_allclose(score, batch_scores[1], atol=1e-6)

    def test_encode(self, name):
        rng = np.random.default_rng(0)
        keypoints = rng.uniform(-30, 290, (3, 1, 17, 2)).astype(np.float32)
        visible = rng.integers(0, 2, (3, 1, 17)).astype(np.float32)
        codec = CODECS[name]
        by_numpy = codec.encode_tensors(keypoints, visible)
        by_torch = codec.encode_tensors(torch.from_numpy(keypoints), torch.from_numpy(visible))
        for key, values in by_numpy.items():
            np.testing.assert_allclose(by_torch[key], values, atol=1e-6)
        one = codec.encode(keypoints[2], visible[2])
        for key, values in one.items():
            assert np.array_equal(values, by_numpy[key][2])


class Decoder(nn.Module):
    """What torch.export takes."""

    def __init__(self, codec):
        super().__init__()
        self.codec = codec

    def forward(self, *outputs):
        return self.codec.decode_tensors(*outputs)


def finite_outputs(codec):
    return [item.nan_to_num(0.0, 0.0, 0.0) for item in outputs_of(codec)]


def assert_same(actual, expected):
    for one, other in zip(actual, expected):
        assert type(one) is type(other)
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('name', CODECS)
class TestOneProcess:
    def test_compiles_whole(self, name):
        codec, outputs = CODECS[name], finite_outputs(CODECS[name])
        torch._dynamo.reset()  # it recompiles a function for 8 codecs, not more
        compiled = torch.compile(codec.decode_tensors, backend='eager', fullgraph=True)
        assert_same(compiled(*outputs), codec.decode_tensors(*outputs))

    def test_fake_tensors_leave_nothing_behind(self, name):
        codec, outputs = CODECS[name], finite_outputs(CODECS[name])
        with FakeTensorMode() as mode:
            keypoints, _ = codec.decode_tensors(*map(mode.from_tensor, outputs))
            assert keypoints.shape == (4, 17, 2)
        keypoints, scores = codec.decode_tensors(*outputs)
        assert type(keypoints) is type(scores) is torch.Tensor

    def test_shapes_without_values(self, name):
        keypoints, scores = CODECS[name].decode_tensors(
            *(item.to('meta') for item in outputs_of(CODECS[name]))
        )
        assert keypoints.is_meta and keypoints.shape == (4, 17, 2) and scores.shape == (4, 17)

    def test_autocast_changes_nothing(self, name):
        codec, outputs = CODECS[name], finite_outputs(CODECS[name])
        with torch.autocast('cpu', torch.bfloat16):
            found = codec.decode_tensors(*outputs)
        assert_same(found, codec.decode_tensors(*outputs))

    @pytest.mark.parametrize('value', [0.0, 0.5, 1e-12, -1.0])
    def test_gradients_of_flat_maps_are_finite(self, name, value):
        outputs = [torch.full_like(o, value).requires_grad_() for o in outputs_of(CODECS[name])]
        keypoints, scores = CODECS[name].decode_tensors(*outputs)
        (keypoints.sum() + scores.sum()).backward()
        assert all(o.grad.isfinite().all() for o in outputs)


def test_gradients_of_an_empty_window_are_finite():
    maps = CODECS['dark'].encode(np.full((1, 17, 2), 60.0))['heatmaps']
    maps = torch.from_numpy(maps)[None].requires_grad_()
    codec = DAECCodec(**HEATMAP, delta=20)
    keypoints, _ = codec.decode_tensors(maps)
    keypoints.sum().backward()
    assert (keypoints == 60).all() and maps.grad.isfinite().all()


@pytest.mark.parametrize(
    'name',
    ['dark', 'simcc_daec']
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in CODECS
        if name not in ('dark', 'simcc_daec')
    ],
)
@pytest.mark.parametrize('strict', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_exports_any_batch_size_and_decodes_afterwards(name, strict):
    codec, outputs = CODECS[name], finite_outputs(CODECS[name])
    expected = codec.decode_tensors(*outputs)
    batch = {0: torch.export.Dim('batch', min=2, max=64)}
    exported = torch.export.export(
        Decoder(codec), tuple(outputs), strict=strict, dynamic_shapes=((batch,) * len(outputs),)
    ).module()
    assert_same(codec.decode_tensors(*outputs), expected)
    assert_same(exported(*outputs), expected)
    assert_same(exported(*(o[:2] for o in outputs)), [item[:2] for item in expected])


@pytest.mark.parametrize('name', CODECS)
def test_needs_nothing_that_mps_lacks(name, monkeypatch):
    """Apple's GPUs have no float64, before torch 2.7 no kernel of `torch.special.entr`, and
    `torch.autocast('mps')` raises on torch 2.1 to 2.4, even where it is to be switched off."""
    codec, outputs, dispatched, made = CODECS[name], finite_outputs(CODECS[name]), set(), set()
    size = torch.tensor(codec.input_size, dtype=torch.float32)
    keypoints, visible = torch.rand(4, 1, 17, 2) * (size - 1), torch.ones(4, 1, 17)
    loss = SimCCKLLoss(beta=2.0, label_softmax=True)

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            dispatched.add(func.overloadpacket)
            made.add(getattr(result, 'dtype', None))
            return result

    def refused(*args, **kwargs):
        raise RuntimeError("User specified an unsupported autocast device_type 'mps'")

    monkeypatch.setattr(torch.autocast, '__init__', refused)
    with Recorder():
        labels = codec.encode_tensors(keypoints, visible)
        codec.decode_tensors(*outputs)
        if isinstance(codec, SimCCCodec):
            vectors = [labels[f'keypoint_{axis}_labels'][:, 0] for axis in 'xy']
            loss(outputs, vectors, visible[:, 0])
    assert torch.float32 in made and torch.float64 not in made
    assert dispatched and torch.ops.aten.special_entr not in dispatched


@cuda
@pytest.mark.parametrize('name', CODECS)
class TestCuda:
    def test_decodes_there_without_waiting(self, name):
        """One copy to the host, at the end."""
        codec = CODECS[name]
        outputs = outputs_of(codec)
        expected = codec.batch_decode(*outputs)
        there = [item.cuda() for item in outputs]
        codec.batch_decode(*there)  # loads kernels
        torch.cuda.set_sync_debug_mode('error')
        try:
            keypoints, _ = codec.decode_tensors(*there)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        assert keypoints.is_cuda
        for one, other in zip(codec.batch_decode(*there), expected):
            np.testing.assert_allclose(one, other, atol=4e-3)

    def test_encodes_there(self, name):
        codec = CODECS[name]
        keypoints = 250 * torch.rand(3, 1, 17, 2)
        visible = torch.ones(3, 1, 17)
        expected = codec.encode_tensors(keypoints, visible)
        actual = codec.encode_tensors(keypoints.cuda(), visible.cuda())
        for key, values in expected.items():
            torch.testing.assert_close(actual[key].cpu(), values, atol=1e-6, rtol=0)


class TestSubnormalNumbers:
    """They cost a processor a hundred times as much as others."""

    @pytest.mark.parametrize('name', CODECS)
    def test_labels_hold_none(self, name):
        keypoints = np.array([[[0.3, 0.4], [190.0, 255.0]]], dtype=np.float32)
        for values in CODECS[name].encode(keypoints).values():
            smallest = np.abs(values[values != 0]).min()
            assert smallest >= np.finfo(np.float32).tiny
