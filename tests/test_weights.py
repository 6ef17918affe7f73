# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Published weights: figures of the published code, round trips, errors."""

import json
import re
import types
import zlib

import numpy as np
import pytest
import torch
from conftest import ROOT, run_tool
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import HistoryBuffer
from mmengine.registry import init_default_scope
from mmpose.registry import KEYPOINT_CODECS, MODELS, TRANSFORMS

from mmpose_simcc import ConfigCheckHook
from mmpose_simcc.config import check_frames, set_representation
from mmpose_simcc.utils.configs import check_published_frame
from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.utils.inference import load_weights as load_into
from mmpose_simcc.weights import (
    check_model,
    convert_official,
    identify,
    load_weights,
    save_checkpoint,
)

RES50 = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'

# figures of the published code, and the config of the same model
GOLDEN = dict(
    tokenpose_s_v1_heatmap_256x192='tokenpose/coco/td-hm_tokenpose-s_8xb64-300e_coco-256x192.py',
    tokenpose_b_heatmap_256x192='tokenpose/coco/td-hm_tokenpose-b_8xb64-300e_coco-256x192.py',
    simcc_res50_upfree_256x192='simcc/coco/simcc_res50_upfree-8xb64-210e_coco-256x192.py',
    simcc_res50_deconv_256x192='simcc/coco/simcc_res50_deconv-8xb64-210e_coco-256x192.py',
    simcc_hrnet_w32_256x192='simcc/coco/simcc_hrnet-w32_8xb64-210e_coco-256x192.py',
)


@pytest.fixture(autouse=True)
def mmpose_scope():
    init_default_scope('mmpose')
    torch.manual_seed(0)


def made_up_weights(path):
    """A published state dict whose values follow from the names."""
    weights = {}
    for name, shape in json.loads(path.read_text()).items():
        if name.endswith('num_batches_tracked'):
            weights[name] = torch.tensor(0)
            continue
        if name.endswith('pos_embedding'):
            weights[name] = sine_table(16, 16, shape[-1])
            continue
        a = (
            np.random.default_rng(zlib.crc32(name.encode()))
            .standard_normal(shape)
            .astype(np.float32)
        )
        if name.endswith('running_mean'):
            a = 0.1 * a
        elif name.endswith('running_var'):
            a = 1 + 0.1 * abs(a)
        elif name.endswith('keypoint_token'):
            a = 0.02 * a
        elif name.endswith('bias'):
            a = 0.1 * a
        elif len(shape) == 1:
            a = 1 + 0.1 * a
        else:
            a = a * np.sqrt(1 / np.prod(shape[1:]))
        weights[name] = torch.from_numpy(a.astype(np.float32))
    return weights


def sine_table(w, h, dims):
    """DETR's embedding with normalised positions, one value at a time."""
    table = np.zeros((h, w, dims))
    for i in range(dims // 2):
        wavelength = 10000 ** (2 * (i // 2) / (dims // 2))
        wave = np.cos if i % 2 else np.sin
        rows = 2 * np.pi * np.arange(1, h + 1) / h
        columns = 2 * np.pi * np.arange(1, w + 1) / w
        table[..., i] = wave(rows / wavelength)[:, None]
        table[..., dims // 2 + i] = wave(columns / wavelength)
    return torch.from_numpy(table.reshape(1, h * w, dims)).float()


def build(model):
    model = MODELS.build({'type': 'TopdownPoseEstimator', **model})
    model.eval()
    return model


@pytest.mark.parametrize('name', GOLDEN)
def test_outputs_of_the_published_code(golden_dir, repo_root, name):
    weights = made_up_weights(golden_dir / f'{name}.keys.json')
    figures = np.load(golden_dir / f'{name}.npz')
    config = Config.fromfile(repo_root / 'configs' / 'body_2d_keypoint' / GOLDEN[name])
    model = build(config.model)
    model.load_state_dict(convert_official(weights), strict=True)
    images = np.random.default_rng(0).standard_normal((1, 3, 256, 192)).astype(np.float32)
    with torch.no_grad():
        outputs = model(torch.from_numpy(images), None, mode='tensor')
    if isinstance(outputs, torch.Tensor):
        outputs = (outputs,)
    for i, output in enumerate(outputs):
        expected = figures[f'out{i}']
        error = np.abs(output.numpy() - expected).max() / expected.std()
        assert error < 1e-4


@pytest.mark.parametrize('name', GOLDEN)
def test_nothing_is_dropped_in_silence(golden_dir, name, caplog):
    weights = made_up_weights(golden_dir / f'{name}.keys.json')
    converted = convert_official(weights)
    dropped = len(weights) - len(converted)
    assert dropped == name.startswith('tokenpose')
    assert len(caplog.records) == dropped
    values = {value.data_ptr() for value in converted.values()}
    unmoved = [n for n, v in weights.items() if v.data_ptr() not in values]
    assert all('pos_embedding' in n or 'patch_to_embedding.weight' in n for n in unmoved)


# ---- round trips: MMPose names to published ones, by rules of their own ----

CNN_NAMES = [
    (r'backbone\.(.*)', r'\1'),
    (r'head\.deconv_head\.(.*)', r'\1'),
    (r'head\.(.*)', r'\1'),
]


def tokenpose_names(tokens, cnn):
    layer = rf'{tokens}.transformer%s.layers.\2.'
    rules = [
        (r'backbone\.keypoint_tokens', f'{tokens}.keypoint_token'),
        (r'backbone\.pos_embed', f'{tokens}.pos_embedding'),
        (r'backbone\.patch_embed\.(.*)', rf'{tokens}.patch_to_embedding.\1'),
        (r'head\.(mlp_head(?:_[xy])?)\.(.*)', rf'{tokens}.\1.\2'),
        (r'backbone\.stem\.(.*)', rf'{cnn}.\1'),
    ]
    for ours, theirs in (
        ('norm1', '0.fn.norm'),
        ('norm2', '1.fn.norm'),
        ('attn.qkv', '0.fn.fn.to_qkv'),
        ('attn.proj', '0.fn.fn.to_out.0'),
        ('mlp.0', '1.fn.fn.net.0'),
        ('mlp.2', '1.fn.fn.net.3'),
    ):
        rules.append(
            (
                rf'backbone\.transformers\.(\d)\.(\d+)\.'
                rf'{re.escape(ours)}\.(weight|bias)',
                layer + theirs + r'.\3',
            )
        )
    return rules


def publish(state, rules, stages=1):
    """The state dict as the published code would name it."""
    published = {}
    for name, value in state.items():
        match, replacement = next(
            (match, replacement)
            for pattern, replacement in rules
            for match in [re.fullmatch(pattern, name)]
            if match
        )
        if '%s' in replacement:
            number = '' if stages == 1 else str(int(match.group(1)) + 1)
            replacement = replacement.replace('%s', number)
        if name == 'backbone.patch_embed.weight':
            value = value.permute(0, 2, 3, 1).flatten(1)
        published[match.expand(replacement)] = value
    return published


def check_round_trip(model_cfg, rules, prefix='', stages=1, add=None):
    # of convolutions names and shapes are enough: they are handed on as they are
    with torch.device('cpu' if model_cfg['backbone']['type'] == 'TokenPose' else 'meta'):
        expected = build(model_cfg).state_dict()
    published = publish(expected, rules, stages)
    published.update(add or {})
    published = {prefix + name: value for name, value in published.items()}
    official = identify(published)
    converted = convert_official(published)
    assert converted.keys() == expected.keys()
    for name, value in expected.items():
        if name == 'backbone.patch_embed.weight':  # another layout
            assert torch.equal(converted[name], value)
        else:  # the very same
            assert converted[name] is value, name
    for part in ('backbone', 'head'):
        for key, value in model_cfg[part].items():
            assert official.model[part][key] == value, (part, key)
    return official


def hrnet_extra(width):
    widths = tuple(width * 2**i for i in range(4))
    extra = dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4,), num_channels=(64,)
        )
    )
    for i, modules in ((2, 1), (3, 4), (4, 3)):
        extra[f'stage{i}'] = dict(
            num_modules=modules,
            num_branches=i,
            block='BASIC',
            num_blocks=(4,) * i,
            num_channels=widths[:i],
        )
    return extra


def simcc(channels, num_keypoints, size, stride, k, **kwargs):
    return dict(
        type='SimCCClassifierHead',
        in_channels=channels,
        out_channels=num_keypoints,
        input_size=size,
        in_featuremap_size=tuple(n // stride for n in size),
        simcc_split_ratio=k,
        **kwargs,
    )


DECONV = dict(deconv_out_channels=(256, 256, 256), deconv_kernel_sizes=(4, 4, 4))
# SimBa: published splits and channels a keypoint by input size (w, h)
SIZES = [((64, 64), 3, 32), ((128, 128), 3, 32), ((192, 256), 2, 28), ((288, 384), 2, 1)]


@pytest.mark.parametrize('depth, channels', [(18, 512), (50, 2048), (101, 2048), (152, 2048)])
def test_resnet_heatmap(depth, channels):
    official = check_round_trip(
        dict(
            backbone=dict(type='ResNet', depth=depth),
            head=dict(type='HeatmapHead', in_channels=channels, out_channels=16, **DECONV),
        ),
        CNN_NAMES,
        prefix='module.',
    )
    assert official.name == f'ResNet-{depth}, heatmap'
    assert official.data_preprocessor['bgr_to_rgb'] is False


@pytest.mark.parametrize('deconv', [True, False])
@pytest.mark.parametrize('size, k, per_keypoint', SIZES)
def test_resnet_simcc(size, k, per_keypoint, deconv):
    options = DECONV if deconv else dict(channels_per_keypoint=per_keypoint)
    check_round_trip(
        dict(backbone=dict(type='ResNet', depth=18), head=simcc(512, 17, size, 32, k, **options)),
        CNN_NAMES,
    )


@pytest.mark.parametrize(
    'width, size, k, num_keypoints',
    [
        (32, (64, 64), 3, 14),
        (32, (256, 256), 2, 16),
        (48, (192, 256), 2, 21),
        (48, (288, 384), 1.5, 17),
    ],
)
def test_hrnet_simcc(width, size, k, num_keypoints):
    official = check_round_trip(
        dict(
            backbone=dict(type='HRNet', extra=hrnet_extra(width)),
            head=simcc(width, num_keypoints, size, 4, k),
        ),
        CNN_NAMES,
    )
    assert official.name == f'HRNet-W{width}, SimCC'
    assert official.data_preprocessor['bgr_to_rgb'] is True


@pytest.mark.parametrize('width, num_keypoints', [(32, 17), (48, 16)])
def test_hrnet_heatmap(width, num_keypoints):
    check_round_trip(
        dict(
            backbone=dict(type='HRNet', extra=hrnet_extra(width)),
            head=dict(
                type='HeatmapHead',
                in_channels=width,
                out_channels=num_keypoints,
                deconv_out_channels=None,
            ),
        ),
        CNN_NAMES,
    )


TOKENPOSES = [
    ('T', (192, 256), (12, 16), 17),
    ('S', (64, 64), (1, 1), 17),
    ('S', (128, 128), (2, 2), 17),
    ('S', (192, 256), (3, 4), 14),
    ('S-v2', (192, 256), (2, 2), 17),
    ('B', (192, 256), (3, 4), 17),
    ('L/D6', (256, 256), (4, 4), 16),
    ('L/D24', (192, 256), (3, 4), 17),
    ('L/D24', (288, 384), (4, 6), 17),
]


def tokenpose(arch, size, patch, num_keypoints, scheme='heatmap', **kwargs):
    dims = 576 if arch[0] == 'L' else 192
    head = dict(in_channels=dims, out_channels=num_keypoints)
    if scheme == 'heatmap':
        head.update(type='TokenHeatmapHead', heatmap_size=tuple(n // 4 for n in size))
    else:
        head.update(type='SimCCClassifierHead', input_size=size, simcc_split_ratio=2.0)
    return dict(
        backbone=dict(
            type='TokenPose',
            arch=arch,
            num_keypoints=num_keypoints,
            input_size=size,
            patch_size=patch,
            **kwargs,
        ),
        head=head,
    )


@pytest.mark.parametrize('scheme', ['heatmap', 'simcc'])
@pytest.mark.parametrize('arch, size, patch, num_keypoints', TOKENPOSES)
def test_tokenpose(arch, size, patch, num_keypoints, scheme):
    small = arch[0] == 'S'
    rules = tokenpose_names(
        'features' if small else 'transformer', 'features' if small else 'pre_feature'
    )
    stride = 1 if arch == 'T' else 4
    table = sine_table(*(n // stride // p for n, p in zip(size, patch)), 192)
    name = ('features' if small else 'transformer') + '.pos_embedding'
    official = check_round_trip(
        tokenpose(arch, size, patch, num_keypoints, scheme),
        rules,
        prefix='module.',
        stages=3 if arch[0] == 'L' else 1,
        add={name: table},
    )
    assert 'it is the sine table' in official.discarded[name]


S_NAMES = tokenpose_names('features', 'features')


@pytest.mark.parametrize('scheme', ['heatmap', 'simcc'])
def test_learnable_position_embedding(scheme):
    model = tokenpose('S', (192, 256), (3, 4), 17, scheme, pos_embed='learnable')
    assert not check_round_trip(model, S_NAMES).discarded


def test_another_position_embedding_is_reported(caplog):
    table = sine_table(16, 16, 192) + 1
    check_round_trip(
        tokenpose('S', (192, 256), (3, 4), 17), S_NAMES, add={'features.pos_embedding': table}
    )
    assert 'outputs may differ' in caplog.text


def test_simcc_layers_beside_the_tokens():
    """SimCC on TokenPose has no published names: both places are accepted."""
    rules = [(r'head\.(.*)', r'\1'), *S_NAMES]
    check_round_trip(tokenpose('S', (192, 256), (3, 4), 17, 'simcc'), rules)


# ---- SimCC without deconvolutions: keypoints and channels are stored as one number ----


@pytest.mark.parametrize('size, k, per_keypoint', SIZES[:3])
@pytest.mark.parametrize('num_keypoints', [1, 5, 14, 16, 21, 26, 68, 98, 133])
def test_any_number_of_keypoints(resnet_names, num_keypoints, size, k, per_keypoint):
    weights = {**resnet_names, **upfree_head(num_keypoints, size, k, per_keypoint)}
    head = identify(weights).model['head']
    assert head['out_channels'] == num_keypoints
    assert (head['input_size'], head['simcc_split_ratio']) == (size, k)
    assert head['channels_per_keypoint'] == per_keypoint


class TestSeveralReadings:
    """12 keypoints of 8 channels at 128x128, or 3 of 32 at 64x64: both have the same shapes."""

    @pytest.fixture
    def weights(self, resnet_names):
        return {**resnet_names, **upfree_head(12, (128, 128), 1.5, 8)}

    def test_the_published_channels_are_taken_and_the_other_is_said(self, weights):
        official = identify(weights)
        assert official.model['head']['out_channels'] == 3
        assert '12 keypoints on (128, 128) pixels with split ratio 1.5' in official.notes[0]

    def test_given(self, weights):
        assert identify(weights, num_keypoints=12).model['head']['input_size'] == (128, 128)
        with pytest.raises(ValueError, match='fit 7 keypoints; they fit .*12 keypoints on'):
            identify(weights, num_keypoints=7)

    def test_none_is_like_published_ones(self, resnet_names):
        weights = {**resnet_names, **upfree_head(20, (128, 128), 2, 12)}
        with pytest.raises(ValueError, match='`num_keypoints` must be given: .* 20 keypoints on'):
            identify(weights)
        assert identify(weights, num_keypoints=20).model['head']['channels_per_keypoint'] == 12


@pytest.fixture(scope='module')
def resnet_names():
    """A published ResNet-18 without its head, by names and shapes."""
    with torch.device('meta'):
        backbone = MODELS.build(dict(type='ResNet', depth=18)).state_dict()
    return dict(backbone)


def upfree_head(num_keypoints, size, k, per_keypoint):
    cells = size[0] * size[1] // 1024
    shapes = {
        'final_layer.weight': (num_keypoints * per_keypoint, 512, 1, 1),
        'mlp_head_x.weight': (int(size[0] * k), per_keypoint * cells),
        'mlp_head_y.weight': (int(size[1] * k), per_keypoint * cells),
    }
    return {name: torch.empty(shape, device='meta') for name, shape in shapes.items()}


# ---- how the published code cuts pictures out ----


class TestFrame:
    @pytest.mark.parametrize(
        'model, source, use_udp',
        [
            ('resnet', None, None),
            ('resnet', 'simplebaseline', False),
            ('resnet', 'hrnet', False),
            ('resnet', 'dark', True),
            ('simcc', None, False),
            ('simcc', 'simcc', False),
            ('tokenpose', None, True),
            ('tokenpose', 'tokenpose', True),
        ],
    )
    def test_of_each_family(self, published_models, model, source, use_udp):
        official = identify(published_models[model], source)
        assert official.use_udp is use_udp
        assert any('1/8 of a heatmap cell' in note for note in official.notes) == bool(use_udp)

    @pytest.mark.parametrize(
        'model, source, message',
        [
            ('simcc', 'tokenpose', '`source` must be that of ResNet-18, SimCC'),
            ('tokenpose', 'hrnet', '`source` must be that of TokenPose-S'),
            ('resnet', 'openpose', '`source` must be one of'),
        ],
    )
    def test_of_another_family(self, published_models, model, source, message):
        with pytest.raises(ValueError, match=message):
            identify(published_models[model], source)

    def test_is_asked_for(self, published_models, tmp_path):
        weights = published_models['resnet']
        with pytest.raises(ValueError, match='`source` must be given: weights of ResNet-18, heat'):
            save_checkpoint(tmp_path / 'a.pth', weights, identify(weights))
        assert not (tmp_path / 'a.pth').exists()

    @pytest.mark.parametrize('use_udp', [True, False])
    def test_a_config_in_another_frame_is_refused(self, tmp_path, use_udp):
        """By every tool that loads such a checkpoint, and when a runner loads it."""
        weights = small_weights()
        official = identify(weights, 'dark')
        save_checkpoint(tmp_path / 'a.pth', convert_official(weights), official)
        cfg = get_config(RES50)
        cfg.model.backbone.update(depth=18, init_cfg=None)
        cfg.model.head.in_channels = 512
        set_representation(cfg, dict(type='DARKCodec', use_udp=use_udp))
        cfg.dump(tmp_path / 'cfg.py')
        model = build_model(cfg)
        runner = types.SimpleNamespace(cfg=cfg)
        content = torch.load(tmp_path / 'a.pth', weights_only=True)
        ways = (
            lambda: load_into(model, str(tmp_path / 'a.pth')),
            lambda: check_model(tmp_path / 'cfg.py', convert_official(weights), official),
            lambda: ConfigCheckHook().after_load_checkpoint(runner, content),
        )
        for way in ways:
            if use_udp:
                way()
            else:
                with pytest.raises(ValueError, match='cut out with UDP need .*use_udp=True'):
                    way()

    def test_other_checkpoints_load(self):
        for meta in (None, {}, dict(use_udp=True), dict(converted_from='ResNet-18', use_udp=None)):
            check_published_frame(get_config(RES50), meta)


@pytest.fixture(scope='module')
def published_models(resnet_names):
    with torch.device('meta'):
        tokens = MODELS.build(tokenpose('S', (64, 64), (1, 1), 17)['backbone']).state_dict()
        head = MODELS.build(tokenpose('S', (64, 64), (1, 1), 17)['head']).state_dict()
    tokens = {f'backbone.{name}': value for name, value in tokens.items()}
    tokens.update((f'head.{name}', value) for name, value in head.items())
    heatmap = {
        'final_layer.weight': torch.empty((17, 256, 1, 1), device='meta'),
        **{
            f'deconv_layers.{i}.weight': torch.empty((channels, 256, 4, 4), device='meta')
            for i, channels in ((0, 512), (3, 256), (6, 256))
        },
    }
    return dict(
        resnet={**resnet_names, **heatmap},
        simcc={**resnet_names, **upfree_head(17, (64, 64), 3, 32)},
        tokenpose=publish(tokens, S_NAMES),
    )


class TestPublishedCrop:
    """A network that answers exactly as the published training taught it, in our pipeline.

    The published code maps the box's centre to ((w-1)/2, (h-1)/2) of the picture, and the picture's
    pixels to cells by (W-1)/(w-1) along both axes.
    """

    @staticmethod
    def errors(codec, use_udp):
        """In input pixels, of keypoints all over a box, along x and y: shape (N, 2)."""
        (w, h), (W, H) = codec.input_size, codec.heatmap_size
        x, y = np.meshgrid(np.linspace(0.15, 0.85, 8), np.linspace(0.15, 0.85, 19))
        center, scale = np.array([130.0, 170.0]), np.array([210.0, 280.0])
        keypoints = center + (np.stack([x.ravel(), y.ravel()], -1) - 0.5) * scale
        results = dict(
            img=np.zeros((400, 300, 3), np.uint8),
            bbox_center=center[None],
            bbox_scale=scale[None],
            bbox_rotation=np.zeros(1),
            keypoints=keypoints[None],
        )
        cut = TRANSFORMS.build(
            dict(type='TopdownAffine', input_size=codec.input_size, use_udp=use_udp)
        )(results)
        pixels = cut['transformed_keypoints'][0]
        half = (np.array([w, h]) - 1) / 2
        cells = (pixels - half) * (W - 1) / (w - 1) + (np.array([W, H]) - 1) / 2
        columns, rows = np.arange(W), np.arange(H)[:, None]
        maps = np.exp(
            -((columns - cells[:, 0, None, None]) ** 2 + (rows - cells[:, 1, None, None]) ** 2) / 8
        )
        decoded, _ = codec.decode(maps.astype(np.float32))
        found = decoded[0] / (w, h) * cut['input_scale'] + cut['input_center']
        found = found - 0.5 * cut['input_scale']
        return (found - keypoints) / scale * (w, h)

    @pytest.mark.parametrize('name', ['tokenpose/coco/td-hm_tokenpose-s_8xb64-300e_coco-256x192'])
    def test_ready_config(self, name):
        cfg = Config.fromfile(ROOT / 'configs' / 'body_2d_keypoint' / f'{name}.py')
        frame = check_frames(cfg)
        errors = self.errors(KEYPOINT_CODECS.build(cfg.model.head.decoder), frame)
        assert frame is True
        # DARK's own error is below 0.03 pixels; 1/8 cell at the ends is 0.35 pixels here
        assert np.abs(errors[:, 0]).max() < 0.03
        assert 0.32 < np.abs(errors[:, 1]).max() < 0.38
        assert cfg.model.test_cfg.flip_test and not cfg.model.test_cfg.get('shift_heatmap')

    def test_plain_frame(self):
        """What such weights lose without UDP."""
        codec = KEYPOINT_CODECS.build(
            dict(type='DARKCodec', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
        )
        errors = self.errors(codec, False)
        assert np.linalg.norm(errors, axis=1).mean() > 1.2


# ---- the weights of every config, as if published ----


def distinct_models():
    """One config of each model; heatmap, DARK and DAEC share theirs."""
    models = {}
    for path in sorted((ROOT / 'configs' / 'body_2d_keypoint').rglob('*.py')):
        # never published as a whole, or not converted
        words = ('heatmap1d', 'hourglass', 'ipr', 'toy-coco', 'effnet')
        if any(word in path.name for word in words):
            continue
        model = Config.fromfile(path).model
        head = {k: v for k, v in model.head.items() if k != 'loss'}
        if head['type'] == 'HeatmapHead':  # of any input size
            head.pop('decoder')
        else:
            head['decoder'] = {
                key: head['decoder'].get(key) for key in ('input_size', 'simcc_split_ratio')
            }
        backbone = {k: v for k, v in model.backbone.items() if 'init' not in k}
        models.setdefault(repr((backbone, head)), path)
    return [pytest.param(path, id=path.stem) for path in models.values()]


@pytest.mark.slow
@pytest.mark.parametrize('path', distinct_models())
def test_config_takes_published_weights(path):
    cfg = Config.fromfile(path).model
    with torch.device('meta'):  # names and shapes are enough
        model = MODELS.build(cfg)
    arch = cfg.backbone.get('arch', '')
    stages, rules, add = 1, CNN_NAMES, {}
    if arch:
        place = 'features' if arch[0] == 'S' else 'transformer'
        stages = 3 if arch[0] == 'L' else 1
        rules = tokenpose_names(place, 'features' if arch[0] == 'S' else 'pre_feature')
        w, h = cfg.head.decoder.input_size
        pw, ph = model.backbone.patch_embed.kernel_size[::-1]
        stride = 1 if arch == 'T' else 4
        add = {f'{place}.pos_embedding': sine_table(w // stride // pw, h // stride // ph, 192)}
    published = {**publish(model.state_dict(), rules, stages), **add}
    official = identify(published)
    converted = convert_official(published)
    model.load_state_dict(converted, strict=True, assign=True)

    assert official.model['backbone']['type'] == cfg.backbone.type
    for key in ('depth', 'arch'):
        if key in cfg.backbone:
            assert official.model['backbone'][key] == cfg.backbone[key]
    if cfg.head.type == 'SimCCClassifierHead':
        head = model.head
        for key in ('input_size', 'simcc_split_ratio', 'channels_per_keypoint'):
            if key in official.model['head']:
                assert official.model['head'][key] == getattr(head, key)
    assert official.model['head']['out_channels'] == cfg.head.out_channels
    assert official.data_preprocessor['bgr_to_rgb'] is (cfg.backbone.type != 'ResNet')

    # one too few, one too many
    middle = len(published) // 2
    missing, name = (list(n)[middle] for n in (published, model.state_dict()))
    with pytest.raises(ValueError, match=f'no weights for {re.escape(name)} of the'):
        convert_official({n: value for n, value in published.items() if n != missing})
    with pytest.raises(ValueError, match='no match for left_over.weight'):
        convert_official({**published, 'left_over.weight': torch.zeros(1)})


# ---- bad input ----


def small_weights():
    return publish(
        build(
            dict(
                backbone=dict(type='ResNet', depth=18),
                head=dict(type='HeatmapHead', in_channels=512, out_channels=17, **DECONV),
            )
        ).state_dict(),
        CNN_NAMES,
    )


class TestErrors:
    def test_unknown(self):
        with pytest.raises(ValueError, match='a0, a1, a2, a3, a4 and 5 more'):
            convert_official({f'a{i}': torch.zeros(1) for i in range(10)})

    @pytest.mark.parametrize('num_stacks', [4, 8])
    def test_hourglass_of_dark(self, num_stacks):
        """It says why, rather than that the model is unknown."""
        weights = {'module.conv1.weight': torch.zeros(64, 3, 7, 7)}
        for stack in range(num_stacks):
            for block in ('hg.{}.hg.0.0.0', 'hg.{}.hg.3.2.0', 'res.{}.0'):
                name = f'module.{block.format(stack)}'
                weights[f'{name}.bn1.weight'] = torch.zeros(256)
                weights[f'{name}.conv1.weight'] = torch.zeros(128, 256, 1, 1)
            weights[f'module.score.{stack}.weight'] = torch.zeros(17, 256, 1, 1)
        with pytest.raises(
            ValueError,
            match=f"DARK's Hourglass with {num_stacks} stacks: "
            'pre-activation .* post-activation .* cannot be converted',
        ):
            convert_official(weights)

    @pytest.mark.parametrize('value', [{}, None, [], {'a': 1}])
    def test_no_weights(self, value):
        with pytest.raises(ValueError, match='must be a dict'):
            convert_official(value)

    @pytest.mark.parametrize('value', [float('nan'), float('inf')])
    def test_not_finite(self, value):
        weights = small_weights()
        weights['layer1.0.conv1.weight'] = torch.full((64, 64, 3, 3), value)
        with pytest.raises(ValueError, match='not a finite number in layer1.0.conv1.weight'):
            convert_official(weights)

    @pytest.mark.parametrize('prefix', ['module.', 'module.module.'])
    def test_prefixes(self, prefix):
        weights = small_weights()
        prefixed = {prefix + name: value for name, value in weights.items()}
        assert convert_official(prefixed).keys() == convert_official(weights).keys()

    def test_left_over(self):
        weights = dict(small_weights(), extra=torch.zeros(1))
        with pytest.raises(ValueError, match='no match for extra'):
            convert_official(weights)

    def test_every_entry_is_needed(self):
        weights = small_weights()
        for name in [*weights][::7]:
            partial = {n: v for n, v in weights.items() if n != name}
            with pytest.raises(
                ValueError, match='no weights for|part of|is not published|no match'
            ):
                convert_official(partial)

    def test_wrong_shapes(self):
        weights = small_weights()
        for name in ('layer1.0.conv1.weight', 'final_layer.weight', 'bn1.bias'):
            for value in (torch.zeros(3), torch.zeros(0, 1, 1, 1)):
                with pytest.raises(ValueError, match=re.escape(name)):
                    convert_official({**weights, name: value})

    def test_counters_of_old_files(self):
        weights = small_weights()
        old = {n: v for n, v in weights.items() if 'num_batches_tracked' not in n}
        converted = convert_official(old)
        assert converted.keys() == convert_official(weights).keys()


# ---- the command line ----


class TestTool:
    def test_converts_and_checks_a_config(self, tmp_path):
        weights = small_weights()
        src, dst, cfg = (tmp_path / n for n in ('a.pth', 'b.pth', 'c.py'))
        torch.save(
            dict(epoch=1, state_dict={f'module.{n}': v for n, v in weights.items()}, perf=0.5), src
        )
        cfg.write_text(
            'custom_imports = dict(imports=["mmpose_simcc"])\n'
            'model = dict(type="TopdownPoseEstimator",\n'
            '    data_preprocessor=dict(type="PoseDataPreprocessor",\n'
            '        mean=[123.675, 116.28, 103.53],\n'
            '        std=[58.395, 57.12, 57.375], bgr_to_rgb=True),\n'
            '    backbone=dict(type="ResNet", depth=18),\n'
            '    head=dict(type="HeatmapHead", in_channels=512,\n'
            '        out_channels=17))\n'
        )
        done = run_tool('convert_official.py', src, dst, '--config', cfg, '--source', 'hrnet')
        assert done.returncode == 0
        out = done.stdout
        assert 'ResNet-18, heatmap' in out
        assert "'bgr_to_rgb': False" in out
        assert 'all weights fit' in out
        assert 'bgr_to_rgb is True, the published training had False' in out
        checkpoint = torch.load(dst, weights_only=True)
        assert checkpoint['meta']['data_preprocessor']['bgr_to_rgb'] is False
        assert checkpoint['meta']['use_udp'] is False
        for name, value in convert_official(weights).items():
            assert torch.equal(checkpoint['state_dict'][name], value)

        cfg.write_text(cfg.read_text().replace('17', '16'))
        done = run_tool(
            'convert_official.py', src, tmp_path / 'd.pth', '--config', cfg, '--source', 'hrnet'
        )
        assert done.returncode == 1
        message = r'convert_official: .*no match for head.final_layer.weight.*\n'
        assert re.fullmatch(message, done.stderr)
        assert not (tmp_path / 'd.pth').exists()

    def test_source_is_asked_for(self, tmp_path):
        torch.save(small_weights(), tmp_path / 'a.pth')
        done = run_tool('convert_official.py', tmp_path / 'a.pth', tmp_path / 'b.pth')
        assert done.returncode == 1
        assert re.fullmatch(r'convert_official: `source` must be given: .*\n', done.stderr)

    def test_no_such_file(self, tmp_path):
        done = run_tool('convert_official.py', tmp_path / 'none.pth', tmp_path / 'b.pth')
        assert done.returncode == 1
        assert re.fullmatch(r'convert_official: .*none\.pth.*\n', done.stderr)


class Malicious:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


class TestLoadWeights:
    def test_malicious(self, tmp_path):
        made = tmp_path / 'made'
        torch.save(dict(state_dict=Malicious(str(made))), tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='a.pth is damaged, or holds'):
            load_weights(tmp_path / 'a.pth')
        assert not made.exists()

    def test_damaged(self, tmp_path):
        path = tmp_path / 'a.pth'
        torch.save(dict(a=torch.zeros(1000)), path)
        content = path.read_bytes()
        for size in (0, 1, 10, 100, len(content) // 2, len(content) - 10):
            path.write_bytes(content[:size])
            with pytest.raises(ValueError, match='a.pth is damaged'):
                load_weights(path)
        path.write_bytes(b'<html>not found</html>')
        with pytest.raises(ValueError, match='a.pth is damaged'):
            load_weights(path)

    @pytest.mark.parametrize('name', ['state_dict', 'model_state_dict', 'model', 'net'])
    def test_inside_of_a_checkpoint(self, tmp_path, name):
        averages = dict(a=torch.ones(1))
        torch.save({'ema': averages, name: dict(a=torch.zeros(1)), 'epoch': 3}, tmp_path / 'a.pth')
        assert load_weights(tmp_path / 'a.pth')['a'] == 0

    @pytest.mark.parametrize('name', ['state_dict_ema', 'generator'])
    def test_unusual_names_are_said(self, tmp_path, name):
        torch.save({name: dict(a=torch.zeros(1)), 'epoch': 3}, tmp_path / 'a.pth')
        with pytest.raises(ValueError, match=f"holds weights as .'{name}'.*save the ones"):
            load_weights(tmp_path / 'a.pth')

    def test_types_of_mmengine(self, tmp_path):
        """As the loader of checkpoints has it, with every torch."""
        history = HistoryBuffer([1.0], [1])
        torch.save(dict(state_dict=dict(a=torch.zeros(1)), message_hub=history), tmp_path / 'a.pth')
        assert load_weights(tmp_path / 'a.pth')['a'] == 0

    @pytest.mark.parametrize(
        'content', [[torch.zeros(1)], dict(epoch=1), dict(state_dict=dict(a=torch.zeros(1), b=2))]
    )
    def test_no_weights(self, tmp_path, content):
        torch.save(content, tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='a.pth holds no state_dict'):
            load_weights(tmp_path / 'a.pth')
