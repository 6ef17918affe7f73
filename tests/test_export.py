# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import copy
import inspect
import io
import json
import re
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from conftest import run_tool
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import init_default_scope
from mmpose.apis import inference_topdown
from mmpose.apis.inference import dataset_meta_from_config
from mmpose.registry import KEYPOINT_CODECS
from torch import nn

from mmpose_simcc.codecs.calibration import made_for, save_calibration
from mmpose_simcc.config import set_representation
from mmpose_simcc.workbench.toy import make_toy_coco

onnx = pytest.importorskip('onnx')
ort = pytest.importorskip('onnxruntime')

from mmpose_simcc.deploy.client import (  # noqa: E402
    ClientError,
    PoseSession,
    infer,
)
from mmpose_simcc.deploy.export import (  # noqa: E402
    DeployModel,
    ExportError,
    compare_with_pytorch,
    export_onnx,
)
from mmpose_simcc.deploy.export.graph import (  # noqa: E402
    Decode,
    ImageInput,
    move_peaks,
    relative_heights,
    relative_probabilities,
)
from mmpose_simcc.deploy.export.onnx_file import simplify, typed_where  # noqa: E402
from mmpose_simcc.deploy.export.precision import _last_layers, to_fp16  # noqa: E402
from mmpose_simcc.deploy.export.verify import Reference  # noqa: E402
from mmpose_simcc.utils.inference import (  # noqa: E402
    build_model,
    load_config,
    pose_head,
    pose_head_cfg,
)

STOCK = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'
INPUT_SIZE = (64, 48)
CELLS = dict(input_size=INPUT_SIZE, heatmap_size=(16, 12), sigma=2.0)
SIMCC = dict(type='SimCCCodec', input_size=INPUT_SIZE, sigma=4.0)
STOCK_SIMCC = dict(type='SimCCLabel', input_size=INPUT_SIZE, simcc_split_ratio=2.0)

CODECS = dict(
    argmax=dict(type='HeatmapCodec', refine='none', **CELLS),
    quarter=dict(type='HeatmapCodec', **CELLS),
    second_max=dict(type='HeatmapCodec', refine='second_max', **CELLS),
    dark=dict(type='DARKCodec', **CELLS),
    daec=dict(type='DAECCodec', **CELLS),
    daec_smooth=dict(type='DAECCodec', smooth=True, **CELLS),
    daec_symmetric=dict(type='DAECCodec', border='symmetric', delta=[1.5, -1], **CELLS),
    udp=dict(type='DARKCodec', use_udp=True, **CELLS),
    simcc=SIMCC,
    simcc_logit=dict(score='maximum', **SIMCC),
    simcc_dark=dict(refine='dark', **SIMCC),
    simcc_daec=dict(refine='daec', delta=1.5, **SIMCC),
    simcc_k3=dict(SIMCC, simcc_split_ratio=3.0),
)
STOCK_CODECS = dict(
    msra=dict(type='MSRAHeatmap', **CELLS),
    msra_dark=dict(type='MSRAHeatmap', unbiased=True, **CELLS),
    simcc_label=dict(STOCK_SIMCC, sigma=4.0),
)

SIMCC_HEAD = dict(
    in_channels=64,
    out_channels=17,
    input_size=INPUT_SIZE,
    in_featuremap_size=(2, 2),
    simcc_split_ratio=2.0,
)
DECONVS = dict(deconv_out_channels=(16, 16, 16))
RTMPOSE = dict(
    type='RTMCCHead',
    final_layer_kernel_size=7,
    gau_cfg=dict(
        hidden_dims=64,
        s=32,
        expansion_factor=2,
        dropout_rate=0.0,
        drop_path=0.0,
        act_fn='SiLU',
        use_rel_bias=False,
        pos_enc=False,
    ),
    loss=dict(type='KLDiscretLoss', use_target_weight=True, beta=10.0, label_softmax=True),
    decoder=dict(STOCK_SIMCC, sigma=(4.9, 5.66), normalize=False),
    **SIMCC_HEAD,
)
HEADS = dict(
    stock_heatmap=dict(
        type='HeatmapHead',
        in_channels=64,
        out_channels=17,
        decoder=dict(STOCK_CODECS['msra'], input_size=(64, 64), heatmap_size=(16, 16)),
        **DECONVS,
    ),
    stock_simcc=dict(
        type='SimCCHead',
        deconv_out_channels=None,
        loss=dict(type='KLDiscretLoss', use_target_weight=True),
        decoder=STOCK_CODECS['simcc_label'],
        **SIMCC_HEAD,
    ),
    rtmpose=RTMPOSE,
    rtmw=dict(
        RTMPOSE,
        type='RTMWHead',
        input_size=(64, 64),
        decoder=dict(RTMPOSE['decoder'], input_size=(64, 64)),
    ),
    visibility=dict(
        type='VisPredictHead',
        pose_cfg=dict(
            type='HeatmapHead',
            in_channels=64,
            out_channels=17,
            decoder=dict(STOCK_CODECS['msra_dark'], input_size=(64, 64), heatmap_size=(16, 16)),
            **DECONVS,
        ),
    ),
)


def small_config(codec, head):
    """A top-down config with a narrow ResNet and no flip test."""
    cfg = load_config(STOCK)
    if codec is not None:
        set_representation(cfg, codec, head)
    else:
        cfg.model.head = head
        for step in cfg.test_dataloader.dataset.pipeline:
            if step.type == 'TopdownAffine':
                step.input_size = pose_head_cfg(cfg).decoder.input_size
    pose_head_cfg(cfg).in_channels = 64
    cfg.model.backbone = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
    if pose_head_cfg(cfg).type == 'RTMWHead':
        cfg.model.backbone.out_indices = (2, 3)
    cfg.model.test_cfg.flip_test = False
    return cfg


def config_of(name):
    if name in HEADS:
        # the last map of 64x48 images is 2x2 after rounding up
        return small_config(None, HEADS[name])
    if name == 'heatmap1d':
        codec = dict(type='SimCCCodec', input_size=(64, 64), simcc_split_ratio=1.0, score='maximum')
        head = dict(
            type='Heatmap1DHead',
            in_featuremap_size=(2, 2),
            deconv1d_out_channels=(16, 16),
            **DECONVS,
        )
        return small_config(codec, head)
    if name.startswith('token'):
        size = dict(input_size=(64, 64))
        token = dict(type='TokenHeatmapHead', heatmap_size=(16, 16))
        codec, head = (
            (dict(type='DAECCodec', **size), token)
            if name == 'token_heatmap'
            else (
                dict(type='SimCCCodec', **size),
                dict(type='SimCCClassifierHead', in_featuremap_size=None),
            )
        )
        cfg = small_config(codec, head)
        cfg.model.backbone = dict(
            type='TokenPose', arch='S', input_size=(64, 64), patch_size=(1, 1)
        )
        cfg.model.head.in_channels = 192
        return cfg
    codec = dict(CODECS[name], input_size=(64, 64))
    if 'heatmap_size' in codec:
        codec['heatmap_size'] = (16, 16)
        head = dict(type='HeatmapHead', **DECONVS)
    else:
        head = dict(type='SimCCClassifierHead', **DECONVS)
    return small_config(codec, head)


def build(cfg, seed=0):
    """A model with random weights and responses of some contrast."""
    torch.manual_seed(seed)
    model = build_model(cfg)
    for parameter in model.head.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_normal_(parameter)
    if pose_head_cfg(cfg).type == 'HeatmapHead':  # else stock gives (-1, -1)
        nn.init.ones_(pose_head(model).final_layer.bias)
    model.cfg = cfg
    model.dataset_meta = dataset_meta_from_config(cfg, 'test')
    return model


def build_codec(cfg):
    init_default_scope('mmpose')
    return KEYPOINT_CODECS.build(cfg)


class TestRelativeVectors:
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 2**31 - 1), st.floats(-8, 4), st.sampled_from([-1e4, 0.0, 3.0]))
    @pytest.mark.parametrize('relative', [relative_probabilities, relative_heights])
    def test_argmax_stays_and_is_1(self, relative, seed, log_scale, offset):
        generator = torch.Generator().manual_seed(seed)
        vectors = torch.randn(4, 96, generator=generator) * 10**log_scale + offset
        values = relative(vectors)
        assert torch.equal(values.argmax(-1), vectors.argmax(-1))
        assert (values.amax(-1) == 1).all()
        assert (values >= 0).all()

    def test_probabilities(self):
        logits = torch.randn(3, 9)
        expected = logits.softmax(-1) / logits.softmax(-1).amax(-1, keepdim=True)
        torch.testing.assert_close(relative_probabilities(logits), expected, atol=1e-5, rtol=0)

    def test_neighbours_that_rounding_makes_equal(self):
        logits = torch.zeros(8)
        logits[5] = 1e-9  # exp() of both differences is 1 in float32
        assert relative_probabilities(logits).argmax() == 5


def test_move_peaks():
    """To any bin from any, and nothing else has the same height."""
    vectors = torch.rand(2, 17, 96, generator=torch.Generator().manual_seed(0))
    vectors[0, 0, 0], vectors[0, 1, 95] = 2.0, 2.0
    bins = torch.linspace(-3, 98, 34).reshape(2, 17)
    moved = move_peaks(vectors, bins)
    assert torch.equal(moved.argmax(-1), bins.round().clamp(0, 95).long())
    assert torch.equal(moved.sort(-1).values, vectors.sort(-1).values)


class TestPerfectStockMasses:
    @pytest.mark.parametrize('name', ['stock_simcc', 'rtmpose'])
    def test_the_loss_is_least_where_the_score_is_1(self, name):
        head = build(config_of(name)).head
        decode = Decode(head, 'simcc')
        point = np.array([[[32, 24]]], np.float32)
        label = head.decoder.encode(point, np.ones((1, 1), np.float32))
        best = []
        for axis in 'xy':
            label_axis = torch.from_numpy(label[f'keypoint_{axis}_labels'])
            logits = label_axis[0].clone().log().clamp(min=-20).requires_grad_()
            if name == 'rtmpose':  # softmax(10 * logits) = softmax(10 * label)
                logits = label_axis[0].clone().requires_grad_()
            loss = head.loss_module.criterion(
                logits, label_axis[0] if name == 'rtmpose' else label_axis[0] / label_axis[0].sum()
            )
            loss.sum().backward()
            assert logits.grad.abs().max() < 1e-5
            best.append(logits.detach()[None])
        for vectors in decode(*best):
            assert vectors.max().item() == pytest.approx(1, abs=1e-3)


class TestImageInput:
    @pytest.mark.parametrize('kind', ['float', 'bgr', 'uint8'])
    def test_same_as_mmpose(self, kind, tmp_path):
        model = build(config_of('quarter'))
        rng = np.random.default_rng(0)
        crops = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
        preprocessor = model.data_preprocessor
        images = list(torch.from_numpy(crops).permute(0, 3, 1, 2))
        expected = preprocessor(dict(inputs=images, data_samples=[]))['inputs']

        layer = ImageInput(preprocessor, kind)
        feed = torch.from_numpy(crops)
        if kind == 'float':
            feed = expected
        elif kind == 'bgr':  # as rtmlib.RTMPose.preprocess
            feed = (feed - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor(
                [58.395, 57.12, 57.375]
            )
            feed = feed.permute(0, 3, 1, 2)
        torch.testing.assert_close(layer(feed), expected, atol=1e-5, rtol=0)
        assert layer.example((48, 64), 3).shape == (
            (3, 64, 48, 3) if kind == 'uint8' else (3, 3, 64, 48)
        )


def trace(module, example, input_names, output_names):
    """A module as ONNX, for batches of any size."""
    buffer = io.BytesIO()
    parameters = inspect.signature(torch.onnx.export).parameters
    options = dict(dynamo=False) if 'dynamo' in parameters else {}
    with typed_where():
        torch.onnx.export(
            module,
            example,
            buffer,
            opset_version=17,
            input_names=input_names,
            output_names=output_names,
            dynamic_axes={name: {0: 'B'} for name in (*input_names, *output_names)},
            **options,
        )
    return buffer.getvalue()


def run_traced(module, arrays):
    """Outputs of a traced module for batches of sizes other than traced."""
    names = [f'in{i}' for i in range(len(arrays))]
    example = tuple(torch.from_numpy(array[:2]) for array in arrays)
    session = ort.InferenceSession(trace(module, example, names, ['a', 'b']))
    for batch_size in (1, 3, len(arrays[0])):
        batch = [array[:batch_size] for array in arrays]
        yield batch, session.run(None, dict(zip(names, batch)))


def peaked_responses(codec, seed=0, batch_size=6):
    """Encoded keypoints anywhere in the image, with some noise; heatmaps, or
    logits along x and y."""
    rng = np.random.default_rng(seed)
    K = 17
    points = rng.uniform(0, np.array(INPUT_SIZE) - 1, (batch_size, K, 2))
    encoded = [
        codec.encode(p[None].astype(np.float32), np.ones((1, K), np.float32)) for p in points
    ]
    if 'heatmaps' in encoded[0]:
        maps = [np.stack([e['heatmaps'] for e in encoded])]
    else:
        maps = [
            np.log(np.concatenate([e[f'keypoint_{axis}_labels'] for e in encoded]) + 1e-4)
            for axis in 'xy'
        ]
        # stock's decoder drops maxima that are not positive
        maps = [m - m.min() + 1 for m in maps]
    return points, [(m + rng.normal(0, 1e-3, m.shape)).astype(np.float32) for m in maps]


class FakeHead(nn.Module):
    """What Decode reads of a head."""

    def __init__(self, codec):
        super().__init__()
        self.decoder = codec
        self.loss_module = nn.Identity()


@pytest.mark.parametrize('name', [*CODECS, *STOCK_CODECS])
class TestDecodeInTheGraph:
    def test_same_as_the_codec(self, name):
        codec = build_codec({**CODECS, **STOCK_CODECS}[name])
        points, maps = peaked_responses(codec)
        decode = Decode(FakeHead(codec), 'keypoints')
        for batch, (keypoints, scores) in run_traced(decode, maps):
            expected = [codec.decode(*sample) for sample in zip(*batch)]
            np.testing.assert_allclose(
                keypoints, np.concatenate([e[0] for e in expected]), atol=2e-3
            )
            if name != 'simcc_label':  # stock's are logits
                np.testing.assert_allclose(
                    scores, np.concatenate([e[1] for e in expected]), rtol=1e-4
                )
            # and near the keypoints that were encoded
            error = np.abs(keypoints - points[: len(keypoints)])
            assert np.median(error) < 4  # one cell

    def test_degenerate_responses(self, name):
        codec = build_codec({**CODECS, **STOCK_CODECS}[name])
        _, maps = peaked_responses(codec, batch_size=3)
        for value, m in zip((0.0, -1.0), (maps[0][0], maps[0][1])):
            m[:] = value
        decode = Decode(FakeHead(codec), 'keypoints')
        for _, (keypoints, scores) in run_traced(decode, maps):
            assert np.isfinite(keypoints).all()
            assert np.isfinite(scores).all()


def shape_of(value):
    """Sizes of a graph's input or output; a name where one varies."""
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def check_operators(proto):
    """None that few runtimes have: these, float64, and a Clip of integers."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    values = (*graph.value_info, *graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    assert onnx.TensorProto.DOUBLE not in kinds.values()
    for node in graph.node:
        assert node.op_type not in ('IsInf', 'IsNaN', 'GatherElements', 'GatherND', 'ScatterND')
        assert node.op_type != 'Clip' or kinds[node.output[0]] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    'name',
    [
        'quarter',
        'second_max',
        'dark',
        'daec',
        'daec_symmetric',
        'simcc',
        'udp',
        'simcc_daec',
        'simcc_k3',
        'heatmap1d',
        'token_heatmap',
        'token_simcc',
        *HEADS,
    ],
)
def test_export_every_head(name, tmp_path):
    cfg = config_of(name)
    model = build(cfg)
    lines = []
    path = tmp_path / 'sub' / 'a.onnx'
    export_onnx(model, cfg, path, 'uint8', 'keypoints', report=lines.append)
    text = '\n'.join(lines)
    assert 'opset 17' in text
    assert float(re.search(r'difference (\S+) px', text)[1]) < 0.05
    assert set(path.parent.iterdir()) == {path, path.with_suffix('.json')}  # no left-overs

    proto = onnx.load(str(path))
    onnx.checker.check_model(proto, full_check=True)
    assert [(item.domain, item.version) for item in proto.opset_import] == [('', 17)]
    assert [shape_of(value) for value in proto.graph.output] == [['batch', 17, 2], ['batch', 17]]
    check_operators(proto)
    session = PoseSession(path)
    assert session.keypoint_names[0] == 'nose'
    assert len(session.skeleton) == 19
    assert session.metadata['mean'] == [123.675, 116.28, 103.53]
    described = json.loads(path.with_suffix('.json').read_text())
    assert described['codec']['type'] == pose_head_cfg(cfg).decoder.type
    assert described == {item.key: json.loads(item.value) for item in proto.metadata_props}
    assert {name: described[name] for name in session.metadata} == session.metadata

    # a whole picture through MMPose and through the client
    rng = np.random.default_rng(1)
    image = cv2.resize(rng.integers(0, 256, (20, 30, 3), np.uint8), (300, 200))
    boxes = np.array([[10, 5, 80, 150], [150, 20, 140, 60]], np.float32)
    keypoints, scores = session.predict(image, boxes)
    samples = inference_topdown(model, image, boxes, bbox_format='xywh')
    expected = np.concatenate([s.pred_instances.keypoints for s in samples])
    moved = np.abs(keypoints - expected).max(-1)
    # the crop's warp rounds differently, which may move an argmax
    # and stock's DARK takes steps of any length on the maps of made-up weights
    most = 0.8 if name == 'visibility' else 0.9
    assert np.median(moved) < 0.1 and (moved < 1).mean() > most
    if name not in ('stock_simcc', 'rtmpose', 'rtmw'):
        expected = np.concatenate([s.pred_instances.keypoint_scores for s in samples])
        np.testing.assert_allclose(scores, expected, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize('name', ['simcc', 'heatmap1d', 'stock_simcc', 'rtmpose', 'rtmw'])
@pytest.mark.parametrize('kind', ['float', 'bgr'])
def test_simcc_output(name, kind, tmp_path):
    cfg = config_of(name)
    model = build(cfg)
    path = tmp_path / 'a.onnx'
    lines = []
    export_onnx(model, cfg, path, kind, report=lines.append)  # the default
    session = PoseSession(path)
    crops = np.random.default_rng(0).integers(0, 256, (3, *session.input_size[::-1], 3), np.uint8)
    outputs = session.session.run(None, dict(input=session.feed(crops)))
    assert [o.name for o in session.session.get_outputs()] == ['simcc_x', 'simcc_y']
    heights = np.stack([output.max(-1) for output in outputs])
    np.testing.assert_array_equal(*heights)  # its mean is its minimum
    deployed = DeployModel(model)
    with torch.no_grad():
        responses = Reference(model, deployed).responses(crops)
        _, scores = deployed.decode.codec.decode_tensors(*responses)
    np.testing.assert_allclose(heights[0], np.maximum(scores, 1e-6), atol=2e-3)
    fits_rtmlib = kind == 'bgr' and name != 'heatmap1d'
    assert ('rtmlib.RTMPose(' in lines[-1]) == fits_rtmlib


@pytest.mark.parametrize(
    'name, shapes', [('daec', [[17, 16, 16]]), ('simcc', [[17, 128], [17, 128]])]
)
@pytest.mark.parametrize('batch', [None, 4])
def test_raw_output(name, shapes, batch, tmp_path):
    """The head's outputs as MMPose has them, and a client that says that it does not decode."""
    cfg = config_of(name)
    model = build(cfg)
    path = tmp_path / 'a.onnx'
    lines = []
    export_onnx(model, cfg, path, 'uint8', 'raw', batch=batch, report=lines.append)
    assert 'runtimes that do not decode' in lines[-1]
    graph = onnx.load(str(path)).graph
    assert [shape_of(value) for value in graph.output] == [[batch or 'batch', *s] for s in shapes]
    operators = [node.op_type for node in graph.node]
    assert 'Constant' not in operators
    # of the batch alone, where it varies
    assert operators.count('Shape') <= (len(shapes) if batch is None else 0)
    session = PoseSession(path)
    crops = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    with pytest.raises(ClientError, match=r'a.onnx gives \w+.* not decoded: export .* --output'):
        session.predict_crops(crops)
    images = list(torch.from_numpy(crops).permute(0, 3, 1, 2))
    data = model.data_preprocessor(dict(inputs=images, data_samples=[]))
    with torch.no_grad():
        expected = model.head(model.extract_feat(data['inputs']))
    expected = (expected,) if name == 'daec' else expected
    for output, wanted in zip(session.run(crops), expected):
        np.testing.assert_allclose(output, wanted.numpy(), atol=1e-5 * wanted.abs().max().item())


def test_simplified():
    """Sizes that vary are computed still, others are known, and padding that depends on them."""

    class Padded(nn.Module):
        """As TensorFlow's "same" padding, from the picture's size."""

        def forward(self, x):
            h, w = x.shape[-2:]
            right, below = (-w) % 4, torch.ceil(torch.as_tensor(h / 4)).int() * 4 - h
            x = nn.functional.pad(x, (0, int(right), 0, int(below)))
            return x.reshape(x.shape[0], -1) * x.shape[-1]

    example = torch.randn(2, 3, 6, 7)
    proto = onnx.load_from_string(trace(Padded(), (example,), ['input'], ['output']))
    simpler = simplify(copy.deepcopy(proto))
    onnx.checker.check_model(simpler, full_check=True)
    assert len(simpler.graph.node) < len(proto.graph.node) / 2
    for batch in (1, 5):
        pixels = np.random.default_rng(0).normal(size=(batch, 3, 6, 7)).astype(np.float32)
        found, expected = (
            ort.InferenceSession(item.SerializeToString()).run(None, dict(input=pixels))[0]
            for item in (simpler, proto)
        )
        np.testing.assert_array_equal(found, expected)
        assert found.shape == (batch, 3 * 8 * 8)


@pytest.mark.parametrize('number', [1, 4, 9])
def test_fixed_batch(number, tmp_path):
    """A file of one batch size and one of any find the same, whatever the number of people."""
    cfg = config_of('simcc')
    model = build(cfg)
    crops = np.random.default_rng(0).integers(0, 256, (number, 64, 64, 3), np.uint8)
    found = []
    for batch in (None, 4):
        path = tmp_path / f'{batch}.onnx'
        export_onnx(model, cfg, path, 'uint8', batch=batch, report=lambda line: None)
        found.append(PoseSession(path, batch_size=8).predict_crops(crops))
    assert shape_of(onnx.load(str(path)).graph.input[0]) == [4, 64, 64, 3]
    for values, others in zip(*found):
        assert values.dtype == others.dtype == np.float32
        np.testing.assert_allclose(values, others, atol=1e-5)


@pytest.mark.parametrize(
    'padding, batch, why',
    [(1.25, None, None), (1.0, None, 'enlarges boxes by 1.25'), (1.25, 8, 'one person at a time')],
)
def test_printed_call(padding, batch, why, tmp_path):
    """rtmlib's where it does what the model needs, else the client's and the reason."""
    cfg = config_of('simcc')
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == 'GetBBoxCenterScale':
            step.padding = padding
    lines = []
    export_onnx(build(cfg), cfg, tmp_path / 'a.onnx', 'bgr', batch=batch, report=lines.append)
    assert 'INFERENCE_PRECISION_HINT' in lines[-2]
    if why is None:
        assert lines[-1].startswith('rtmlib.RTMPose(')
    else:
        assert 'infer_onnx.py' in lines[-1] and f'(not rtmlib: it {why}' in lines[-1].replace(
            'shows a model ', ''
        )


KNOTS = [[[0.0, 0.0], [0.1, 0.3 + 0.02 * k], [0.5, 0.7], [1.0, 0.9]] for k in range(17)]
OFFSET = [[0.3 + 0.05 * k, -0.25] for k in range(17)]
RADII = dict(edges=[[0.4]] * 17, pixels=[[[2 + k, 6 + k], [1, 2]] for k in range(17)])


def calibrate_to(path, decoder, **changes):
    """Write a calibration of a config's decoder."""
    codec = build_codec(decoder)
    kept = dict(decoder, type=type(codec).__name__)
    content = dict(
        made_for=dict(made_for(codec), num_keypoints=17, flip_test='none'),
        decoder={k: v for k, v in kept.items() if k in ('type', 'refine', 'delta', 'score')},
        calibrated_on='some pictures',
        score_maps=KNOTS,
    )
    save_calibration(path, {**content, **changes})
    return str(path)


class TestCalibratedScores:
    def build(self, name, folder, **changes):
        """A model as it is, and with a calibration."""
        cfg = config_of(name)
        calibrated = copy.deepcopy(cfg)
        decoder = calibrated.model.head.decoder
        decoder.calibration = calibrate_to(folder / 'c.json', cfg.model.head.decoder, **changes)
        return (build(cfg), cfg), (build(calibrated), calibrated)

    @pytest.mark.parametrize(
        'name, output',
        [
            ('dark', 'keypoints'),
            ('simcc_dark', 'keypoints'),
            ('simcc', 'simcc'),
            ('simcc_logit', 'simcc'),
        ],
    )
    def test_in_the_graph(self, name, output, tmp_path):
        sessions, lines = [], []
        for index, (model, cfg) in enumerate(self.build(name, tmp_path)):
            path = tmp_path / f'{index}.onnx'
            export_onnx(model, cfg, path, output=output, report=lines.append)
            sessions.append(PoseSession(path))
        size = sessions[0].input_size[::-1]
        crops = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
        (keypoints, scores), (ours, our_scores) = (s.predict_crops(crops) for s in sessions)
        np.testing.assert_array_equal(ours, keypoints)
        expected = [np.interp(scores[:, k], *np.transpose(KNOTS[k])) for k in range(17)]
        np.testing.assert_allclose(our_scores, np.transpose(expected), atol=1e-5)
        assert np.abs(our_scores - scores).max() > 0.01
        assert ['calibrated scores' in line for line in lines if 'onnxruntime and' in line] == [
            False,
            True,
        ]
        described = json.loads(path.with_suffix('.json').read_text())
        assert described['calibrated_on'] == 'some pictures'

    @pytest.mark.parametrize('name, output', [('dark', 'keypoints'), ('simcc', 'simcc')])
    def test_offset_and_radii(self, name, output, tmp_path):
        """Another decoder, an offset and radii, against the codec; a SimCC vector has bins."""
        changes = dict(offset=OFFSET, radii=RADII)
        _, (model, cfg) = self.build(name, tmp_path, **changes)
        path = tmp_path / 'a.onnx'
        lines = []
        export_onnx(model, cfg, path, output=output, report=lines.append)
        session = PoseSession(path)
        crops = np.random.default_rng(0).integers(0, 256, (3, *session.input_size[::-1], 3))
        crops = crops.astype(np.uint8)
        deployed = DeployModel(model, output=output)
        with torch.no_grad():
            responses = Reference(model, deployed).responses(crops)
            keypoints, scores = deployed.decode.codec.decode_tensors(*responses)
        stable = Reference(model, deployed).is_stable(responses, keypoints.numpy())
        found, found_scores = session.predict_crops(crops)
        np.testing.assert_allclose(found_scores, scores.clamp(min=1e-6), atol=1e-4)
        if output == 'simcc':
            nearest = (keypoints * 2).round().clamp(0, 127) / 2
            np.testing.assert_allclose(found, nearest, atol=1e-5)
            return
        np.testing.assert_allclose(found[stable], keypoints.numpy()[stable], atol=0.01)
        radii = session.run(crops)[2]
        np.testing.assert_allclose(radii, deployed.decode.codec.keypoint_radius(scores), atol=1e-4)

    @pytest.mark.parametrize('name, output', [('dark', 'keypoints'), ('simcc', 'simcc')])
    def test_client(self, name, output, tmp_path):
        """Radii and a person's score in its JSON, against the codec; circles move nothing."""
        changes = dict(radii=RADII, instance_score='keypoint')
        _, (model, cfg) = self.build(name, tmp_path, **changes)
        path = tmp_path / 'a.onnx'
        export_onnx(model, cfg, path, output=output, report=lambda line: None)
        session = PoseSession(path)
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 256, (90, 120, 3), np.uint8)
        cv2.imwrite(str(tmp_path / 'p.png'), picture)
        found, drawn = [], []
        for circles in (False, True):
            out = tmp_path / f'out{circles}'
            infer(session, tmp_path / 'p.png', out, [[10, 5, 80, 80]], circles=circles)
            found.append(json.loads((out / 'predictions.json').read_text())['annotations'][0])
            drawn.append(cv2.imread(str(out / 'p.png')))
        assert found[0] == found[1] and (drawn[0] != drawn[1]).any()
        scores = np.array(found[0]['keypoints']).reshape(-1, 3)[:, 2]
        _, exact = session.predict(picture, [[10, 5, 80, 80]])
        codec = pose_head(model).decoder
        expected = codec.keypoint_radius(exact)[0] * 80 * 1.25 / session.input_size[0]
        np.testing.assert_allclose(found[0]['keypoint_radius'], expected, atol=2e-3)
        assert found[0]['score'] == pytest.approx(scores.mean(), abs=1e-3)

    def test_flip_test_is_told(self, tmp_path):
        _, (model, cfg) = self.build('dark', tmp_path)
        content = json.loads((tmp_path / 'c.json').read_text())
        content['made_for']['flip_test'] = 'stock'
        save_calibration(tmp_path / 'c.json', content)
        lines = []
        export_onnx(build(cfg), cfg, tmp_path / 'a.onnx', report=lines.append)
        assert any("made with the flip test 'stock', which the file does not" in x for x in lines)

    def test_other_weights_are_refused(self, tmp_path):
        _, (model, cfg) = self.build('dark', tmp_path)
        content = json.loads((tmp_path / 'c.json').read_text())
        content['made_for']['model'] = 'another'
        save_calibration(tmp_path / 'c.json', content)
        with pytest.raises(ValueError, match='was made for other weights'):
            export_onnx(build(cfg), cfg, tmp_path / 'a.onnx')

    def test_other_scores_are_noticed(self, tmp_path):
        _, (model, cfg) = self.build('dark', tmp_path)
        path = tmp_path / 'a.onnx'
        export_onnx(model, cfg, path)
        other = [[[0.0, 0.05], [0.1, 0.35], [1.0, 0.95]]] * 17
        _, (model, _) = self.build('dark', tmp_path, score_maps=other)
        with pytest.raises(ExportError, match='disagree.*of calibrated scores'):
            compare_with_pytorch(PoseSession(path), model, DeployModel(model))


class TestChecks:
    def test_wrong_weights_are_noticed(self, tmp_path):
        cfg = config_of('simcc')
        path = tmp_path / 'a.onnx'
        export_onnx(build(cfg), cfg, path)
        other = build(cfg, seed=1)
        with pytest.raises(ExportError, match='disagree'):
            compare_with_pytorch(PoseSession(path), other, DeployModel(other))

    def test_a_constant_model_cannot_be_compared(self, tmp_path):
        cfg = config_of('simcc')
        model = build(cfg)
        for parameter in model.head.parameters():
            nn.init.zeros_(parameter)
        with pytest.raises(ExportError, match='nothing can be compared'):
            export_onnx(model, cfg, tmp_path / 'a.onnx')
        assert not list(tmp_path.iterdir())

    def test_heatmaps_have_no_simcc_output(self):
        with pytest.raises(ValueError, match="`output`.*'keypoints'"):
            DeployModel(build(config_of('quarter')), output='simcc')

    def test_unknown_codec(self):
        cfg = config_of('quarter')
        cfg.model.head.decoder = dict(type='UDPHeatmap', heatmap_type='combined', **CELLS)
        with pytest.raises(ValueError, match='decoder.*UDPHeatmap'):
            DeployModel(build(cfg))

    def test_udp_of_the_pipeline_alone(self, tmp_path):
        cfg = config_of('quarter')
        for step in cfg.test_dataloader.dataset.pipeline:
            if step.type == 'TopdownAffine':
                step.use_udp = True
        with pytest.raises(ValueError, match=r'contradict each other.*use_udp=True'):
            export_onnx(build(cfg), cfg, tmp_path / 'a.onnx')


def people_of(shared_dir):
    """Pictures and boxes (x1, y1, x2, y2) of a dozen people."""
    root = shared_dir / 'data' / 'coco'
    annotations = json.loads((root / 'annotations' / 'person_keypoints_val2017.json').read_text())
    file_names = {i['id']: i['file_name'] for i in annotations['images']}
    for person in [a for a in annotations['annotations'] if a['num_keypoints']][:12]:
        x, y, w, h = person['bbox']
        image = cv2.imread(str(root / 'val2017' / file_names[person['image_id']]))
        yield image, np.array([[x, y, x + w, y + h]])


@pytest.mark.parametrize('calibrated', [False, True])
def test_rtmlib_decodes_the_file(calibrated, tmp_path, shared_dir):
    """rtmlib, unchanged and by its defaults, against MMPose."""
    rtmlib = pytest.importorskip('rtmlib')
    cfg = config_of('simcc')
    if calibrated:
        decoder = cfg.model.head.decoder
        decoder.calibration = calibrate_to(tmp_path / 'c.json', decoder)
    model = build(cfg)
    path = tmp_path / 'a.onnx'
    lines = []
    export_onnx(model, cfg, path, 'bgr', report=lines.append)
    pose = eval(lines[-1], dict(rtmlib=rtmlib))  # the call that was printed
    for image, box in people_of(shared_dir):
        keypoints, scores = pose(image, box)
        expected = inference_topdown(model, image, box)[0].pred_instances
        assert np.abs(keypoints - expected.keypoints).max() < 1
        np.testing.assert_allclose(scores, expected.keypoint_scores, atol=0.01)


# --- tools/export_onnx.py, as a user runs it ---


@pytest.fixture
def exporter(tmp_path):
    """Runs tools/export_onnx.py in the test's folder."""
    return partial(run_tool, 'export_onnx.py', cwd=tmp_path)


@pytest.mark.parametrize('name, layers', [('simcc', 2), ('daec', 1)])
def test_last_layers(name, layers, tmp_path):
    """Those whose output only the decoder reads."""
    path = tmp_path / 'a.onnx'
    export_onnx(build(config_of(name)), config_of(name), path)
    proto = onnx.load(str(path))
    found = [node for node in _last_layers(proto) if node.op_type in ('Conv', 'Gemm', 'MatMul')]
    assert len(found) == layers
    channels = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    for node in found:
        assert {96, 128, 17} & set(channels[node.input[1]])


@pytest.mark.parametrize('name, output', [('simcc', 'simcc'), ('daec', 'raw'), ('rtmpose', 'raw')])
def test_fp16_rounds_no_output(name, output, tmp_path):
    """The layers that give the outputs are in float32, all before them in float16."""
    cfg = config_of(name)
    export_onnx(build(cfg), cfg, tmp_path / 'a.onnx', output=output, report=lambda line: None)
    proto = onnx.load(str(tmp_path / 'a.onnx'))
    low = to_fp16(proto)
    onnx.checker.check_model(low, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in low.graph.initializer}
    weights = {
        node.name: kinds[name]
        for node in low.graph.node
        if node.op_type in ('Conv', 'Gemm', 'MatMul')
        for name in node.input[1:2]
        if name in kinds
    }
    last = {node.name for node in _last_layers(proto)} & set(weights)
    assert last
    for name, kind in weights.items():
        expected = onnx.TensorProto.FLOAT if name in last else onnx.TensorProto.FLOAT16
        assert kind == expected, name


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['fp16', 'int8'])
def test_lower_precision(precision, exporter, tmp_path):
    make_toy_coco(tmp_path / 'toy', train=8, val=4, workers=1)
    cfg = config_of('daec')
    model = build(cfg)
    cfg.dump(str(tmp_path / 'config.py'))
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    full = tmp_path / 'full.onnx'
    export_onnx(model, cfg, full, 'uint8')
    done = exporter(
        'config.py',
        'weights.pth',
        'low.onnx',
        '--input',
        'uint8',
        '--precision',
        precision,
        '--data',
        'toy',
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf'coco/AP: fp32 0.\d+, {precision} 0.\d+, change [+-]0.\d+', done.stdout)

    low = tmp_path / 'low.onnx'
    onnx.checker.check_model(str(low))
    assert [item.domain for item in onnx.load(str(low)).opset_import] == ['']
    assert low.stat().st_size < 0.7 * full.stat().st_size
    full, low = PoseSession(full), PoseSession(low)
    assert low.metadata == full.metadata
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    image = cv2.resize(image, (200, 200))
    boxes = np.array([[0, 0, 200, 200], [50, 20, 90, 120]])
    keypoints, scores = full.predict(image, boxes)
    low_keypoints, low_scores = low.predict(image, boxes)
    limit = dict(fp16=0.01, int8=0.2)[precision] * np.abs(scores).max()
    assert np.abs(low_scores - scores).max() < limit
    assert np.abs(low_scores - scores).max() > 0  # it is another precision
    if precision == 'fp16':
        # random maps have many nearly equal maxima, and rounding chooses
        # among them; where it takes the same, nothing else is rounded
        assert (np.abs(low_keypoints - keypoints) < 0.01).mean() > 0.4


@pytest.mark.parametrize(
    'args, message',
    [
        (('none.py', 'weights.pth', 'a.onnx'), 'none.py'),
        (('config.py', 'none.pth', 'a.onnx'), 'checkpoint none.pth cannot be'),
        (('config.py', 'bad.pth', 'a.onnx'), 'checkpoint bad.pth cannot be'),
        (('config.py', 'weights.pth', 'taken'), 'taken'),
        (
            ('config.py', 'weights.pth', 'a.onnx', '--precision', 'int8', '--data', 'nowhere'),
            'there is no nowhere',
        ),
        (('config.py', 'weights.pth', 'a.onnx', '--output', 'simcc'), '`output`'),
    ],
)
def test_export_errors_are_one_line(exporter, tmp_path, args, message):
    cfg = config_of('daec')
    cfg.dump(str(tmp_path / 'config.py'))
    torch.save(build(cfg).state_dict(), tmp_path / 'weights.pth')
    (tmp_path / 'bad.pth').write_bytes(b'no checkpoint')
    (tmp_path / 'taken').mkdir()
    done = exporter(*args)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('export_onnx: ') and message in last
    assert done.stderr.count('export_onnx: ') == 1
    assert not (tmp_path / 'a.onnx').exists()


@pytest.mark.slow
def test_compare_runtimes(tmp_path):
    """The files that are written run in onnxruntime as in PyTorch, and the table says so."""
    cfg = config_of('simcc')
    cfg.dump(str(tmp_path / 'config.py'))
    torch.save(build(cfg).state_dict(), tmp_path / 'weights.pth')
    compare = partial(run_tool, 'compare_runtimes.py', cwd=tmp_path)
    assert compare('write', 'config.py', 'weights.pth', 'files').returncode == 0
    assert compare('run', 'files', 'onnxruntime').returncode == 0
    head, _, *rows = compare('table', 'files').stdout.splitlines()
    assert head == f'| | onnxruntime {ort.__version__} |'
    rows = dict(tuple(cell.strip() for cell in row.strip('|').split('|')) for row in rows)
    assert list(rows) == ['raw', 'simcc', 'argmax', 'dark', 'daec']
    assert float(rows.pop('raw')) < 1e-5
    for cell in rows.values():
        keypoints, scores = map(float, cell.split(', '))
        assert keypoints < 0.05 and scores < 1e-4
