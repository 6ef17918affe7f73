# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""TokenPose: sizes, position embeddings, and the whole estimator."""

import math

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample

from mmpose_simcc.models.backbones.tokenpose import sine_position_embedding

FLIP_INDICES = [0, 2, 1, 4, 3]
NUM_KEYPOINTS = len(FLIP_INDICES)


@pytest.fixture(autouse=True)
def mmpose_scope():
    init_default_scope('mmpose')
    torch.manual_seed(0)


def build(arch='S', **kwargs):
    model = MODELS.build(dict(type='TokenPose', arch=arch, **kwargs))
    # off the small initial values, so that every part has an effect
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=math.prod(parameter.shape[1:]) ** -0.5)
    torch.nn.init.normal_(model.keypoint_tokens)
    model.eval()
    return model


def num_parameters(*modules):
    return sum(p.numel() for m in modules for p in m.parameters()) / 1e6


class TestSize:
    """Figures: Table 1 of SimCC and Tables 1 and 2 of TokenPose."""

    @pytest.mark.parametrize(
        'arch, input_size, patch_size, num_keypoints, millions',
        [
            ('T', (192, 256), None, 17, 5.8),
            ('S', (64, 64), (1, 1), 17, 4.9),
            ('S', (128, 128), (2, 2), 17, 5.2),
            ('S', (192, 256), None, 17, 6.6),
            ('S-v2', (192, 256), None, 17, 6.2),
            ('B', (192, 256), None, 17, 13.5),
            ('L/D6', (256, 256), (4, 4), 16, 21.4),
            ('L/D24', (192, 256), None, 17, 27.5),
            ('L/D24', (288, 384), (4, 6), 17, 29.8),
        ],
    )
    def test_heatmap(self, arch, input_size, patch_size, num_keypoints, millions):
        backbone = build(
            arch, num_keypoints=num_keypoints, input_size=input_size, patch_size=patch_size
        )
        head = MODELS.build(
            dict(
                type='TokenHeatmapHead',
                in_channels=576 if arch.startswith('L') else 192,
                out_channels=num_keypoints,
                heatmap_size=[n // 4 for n in input_size],
            )
        )
        assert abs(num_parameters(backbone, head) - millions) < 0.06

    @pytest.mark.parametrize(
        'input_size, patch_size, k, millions',
        [((64, 64), (1, 1), 3, 4.9), ((128, 128), (2, 2), 3, 5.1), ((192, 256), (3, 4), 2, 5.5)],
    )
    def test_simcc(self, input_size, patch_size, k, millions):
        backbone = build(input_size=input_size, patch_size=patch_size)
        head = MODELS.build(
            dict(
                type='SimCCClassifierHead',
                in_channels=192,
                out_channels=17,
                input_size=input_size,
                simcc_split_ratio=k,
            )
        )
        assert abs(num_parameters(backbone, head) - millions) < 0.06


class TestForward:
    @pytest.mark.parametrize(
        'arch, input_size, patch_size, dims',
        [
            ('T', (48, 64), (12, 16), 192),
            ('S', (48, 64), (3, 4), 192),
            ('S', (36, 20), (3, 1), 192),
            ('B', (48, 64), (3, 4), 192),
            ('L/D6', (48, 64), (3, 4), 576),
        ],
    )
    def test_tokens(self, arch, input_size, patch_size, dims):
        model = build(
            arch, num_keypoints=NUM_KEYPOINTS, input_size=input_size, patch_size=patch_size
        )
        outs = model(torch.randn(2, 3, *input_size[::-1]))
        assert isinstance(outs, tuple) and len(outs) == 1
        assert outs[0].shape == (2, NUM_KEYPOINTS, dims)

    def test_hrnet_is_stock_up_to_stage_3(self):
        model = build('B', input_size=(64, 64), patch_size=(4, 4))
        names = [name for name, _ in model.stem.named_parameters()]
        assert not any('stage4' in n or 'transition3' in n for n in names)
        stage3 = {
            f'stage3.{i}': max(
                int(n.split('.')[3]) for n in names if n.startswith(f'stage3.{i}.fuse_layers')
            )
            for i in range(4)
        }
        # the last module makes only the branch of highest resolution
        assert list(stage3.values()) == [2, 2, 2, 0]
        stock = MODELS.build(dict(type='HRNet', extra=model.stem.extra))
        assert set(names) < {name for name, _ in stock.named_parameters()}

    def test_pretrained_stem(self, tmp_path):
        source = build('B', input_size=(64, 64), patch_size=(4, 4)).stem
        path = tmp_path / 'hrnet.pth'
        torch.save(source.state_dict(), path)
        model = MODELS.build(
            dict(
                type='TokenPose',
                arch='B',
                input_size=(64, 64),
                patch_size=(4, 4),
                stem_init_cfg=dict(type='Pretrained', checkpoint=str(path)),
            )
        )
        model.init_weights()
        for name, value in model.stem.state_dict().items():
            assert torch.equal(value, source.state_dict()[name]), name
        assert 0.01 < model.patch_embed.weight.std() < 0.03

    def test_attention_scale(self):
        """S scales by dim**-0.5, the others by head_dim**-0.5."""
        for arch, scale in (('S', 192**-0.5), ('B', 24**-0.5)):
            attn = build(arch, input_size=(48, 64)).transformers[0][0].attn
            x = torch.randn(1, 7, 192)
            q, k, v = attn.qkv(x).chunk(3, dim=-1)
            heads = [
                torch.softmax(q[..., i] @ k[..., i].transpose(1, 2) * scale, -1) @ v[..., i]
                for i in (slice(24 * h, 24 * h + 24) for h in range(8))
            ]
            expected = attn.proj(torch.cat(heads, dim=-1))
            torch.testing.assert_close(attn(x), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
    def test_traced_with_any_batch_size(self):
        model = build('B', input_size=(48, 64))
        images = torch.randn(2, 3, 64, 48)
        traced = torch.jit.trace(model, images[:1])
        torch.testing.assert_close(traced(images), model(images))

    def test_gradients_reach_everything(self):
        model = build('S', input_size=(48, 64), num_keypoints=2, pos_embed='learnable')
        model(torch.randn(2, 3, 64, 48))[0].square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())


class TestPositionEmbedding:
    def test_sine_formula(self):
        table = sine_position_embedding((3, 2), 8)[0]
        for i, (row, column) in enumerate(np.ndindex(2, 3)):
            for half, (at, length) in enumerate(((row, 2), (column, 3))):
                phase = 2 * math.pi * (at + 1) / length
                expected = [
                    math.sin(phase),
                    math.cos(phase),
                    math.sin(phase / 10000**0.5),
                    math.cos(phase / 10000**0.5),
                ]
                np.testing.assert_allclose(table[i, 4 * half : 4 * half + 4], expected, atol=1e-5)

    def test_none_does_not_know_positions(self):
        """Without an embedding, a permutation of the patches changes nothing;
        with any other it does."""
        images = torch.randn(1, 3, 32, 48)
        shuffled = torch.roll(images, 16, dims=-1)  # 'T' sees patches alone
        for pos_embed in ('none', 'sine', 'sine-full', 'learnable'):
            model = build('T', input_size=(48, 32), patch_size=(16, 16), pos_embed=pos_embed)
            same = torch.allclose(model(images)[0], model(shuffled)[0], rtol=1e-3, atol=1e-3)
            assert same == (pos_embed == 'none'), pos_embed

    def test_full_differs_from_sine(self):
        model = build('S', input_size=(48, 64))
        images = torch.randn(1, 3, 64, 48)
        full = model(images)[0]
        model.pos_embed_type = 'sine'
        assert not torch.allclose(full, model(images)[0], atol=1e-3)

    def test_only_a_learned_embedding_is_stored(self):
        for pos_embed in ('none', 'sine', 'sine-full', 'learnable'):
            state = build(input_size=(48, 64), pos_embed=pos_embed)
            assert ('pos_embed' in state.state_dict()) == (pos_embed == 'learnable')


class TestErrors:
    def test_arguments(self):
        with pytest.raises(ValueError, match="'XL'.*'L/D24'"):
            build('XL')
        with pytest.raises(ValueError, match="'cosine'.*'learnable'"):
            build(pos_embed='cosine')

    @pytest.mark.parametrize(
        'arch, input_size, patch_size',
        [('S', (192, 256), (5, 4)), ('S', (190, 256), (1, 1)), ('T', (192, 256), (12, 15))],
    )
    def test_patch_must_divide(self, arch, input_size, patch_size):
        with pytest.raises(ValueError) as error:
            build(arch, input_size=input_size, patch_size=patch_size)
        assert str(input_size) in str(error.value)
        assert str(patch_size) in str(error.value)

    def test_hrnet_needs_multiples_of_16(self):
        with pytest.raises(ValueError, match='multiples of 16'):
            build('B', input_size=(200, 200), patch_size=(2, 2))

    def test_images_of_another_size(self):
        with pytest.raises(ValueError, match=r'\(64, 48\).*\(48, 64\)'):
            build(input_size=(48, 64))(torch.randn(1, 3, 48, 64))


def make_samples(codec, keypoints):
    """Samples with the labels that MMPose's pipeline makes."""
    samples = []
    for points in keypoints:
        encoded = codec.encode(points[None])
        sample = PoseDataSample(
            metainfo=dict(
                flip_indices=FLIP_INDICES,
                input_size=codec.input_size,
                input_center=np.array(codec.input_size) / 2,
                input_scale=np.array(codec.input_size),
            )
        )
        sample.gt_instances = InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
        sample.gt_instance_labels = InstanceData(
            **{key: torch.from_numpy(encoded[key]) for key in codec.label_mapping_table}
        )
        if 'heatmaps' in encoded:
            sample.gt_fields = PixelData(heatmaps=torch.from_numpy(encoded['heatmaps']))
        samples.append(sample)
    return samples


HEADS = dict(
    heatmap=dict(
        type='TokenHeatmapHead',
        in_channels=192,
        out_channels=NUM_KEYPOINTS,
        heatmap_size=(12, 16),
        decoder=dict(type='HeatmapCodec', input_size=(48, 64), heatmap_size=(12, 16), sigma=1.0),
    ),
    simcc=dict(
        type='SimCCClassifierHead',
        in_channels=192,
        out_channels=NUM_KEYPOINTS,
        decoder=dict(type='SimCCCodec', input_size=(48, 64), sigma=4.0),
    ),
)


class TestEstimator:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        'scheme, steps, tolerance', [('heatmap', 100, 3.0), ('simcc', 40, 2.0)]
    )
    def test_learns_and_predicts(self, scheme, steps, tolerance):
        """Two images are learned by heart, through MMPose's estimator."""
        head = HEADS[scheme]
        model = MODELS.build(
            dict(
                type='TopdownPoseEstimator',
                backbone=dict(
                    type='TokenPose', arch='S', num_keypoints=NUM_KEYPOINTS, input_size=(48, 64)
                ),
                head=head,
                test_cfg=dict(flip_test=False),
            )
        )
        model.init_weights()
        keypoints = (
            np.random.default_rng(0)
            .uniform((4, 4), (44, 60), (2, NUM_KEYPOINTS, 2))
            .astype(np.float32)
        )
        samples = make_samples(KEYPOINT_CODECS.build(head['decoder']), keypoints)
        images = torch.randn(2, 3, 64, 48)
        optimizer = torch.optim.Adam(model.parameters(), 5e-4)
        for _ in range(steps):
            losses = model(images, samples, mode='loss')
            optimizer.zero_grad()
            losses['loss_kpt'].backward()
            optimizer.step()
        # batch statistics: too few steps for the running ones
        with torch.no_grad():
            preds = model(images, samples, mode='predict')
        error = np.abs(np.concatenate([p.pred_instances.keypoints for p in preds]) - keypoints)
        assert error.max() < tolerance  # 3 is 3/4 of a heatmap's cell
        for pred in preds:
            scores = pred.pred_instances.keypoint_scores
            assert ((scores > 0.3) & (scores <= 1.3)).all()

    @pytest.mark.parametrize('scheme', ['heatmap', 'simcc'])
    def test_flip_test_is_symmetric(self, scheme):
        """With the flip test, the mirrored image gives mirrored keypoints."""
        head = MODELS.build(HEADS[scheme])
        backbone = build(num_keypoints=NUM_KEYPOINTS, input_size=(48, 64))
        samples = make_samples(head.decoder, np.full((1, NUM_KEYPOINTS, 2), 20.0, np.float32))
        images = torch.randn(1, 3, 64, 48)
        test_cfg = dict(flip_test=True)
        with torch.no_grad():
            feats, flipped = backbone(images), backbone(images.flip(-1))
            a = head.predict([feats, flipped], samples, test_cfg)[0]
            b = head.predict([flipped, feats], samples, test_cfg)[0]
        assert a.keypoints.shape == (1, NUM_KEYPOINTS, 2)
        scale = 4.0 if scheme == 'heatmap' else 1
        mirrored = b.keypoints[:, FLIP_INDICES]
        mirrored[..., 0] = 48 - scale - mirrored[..., 0]
        # the quarter shift is not taken in the first two columns
        np.testing.assert_allclose(a.keypoints, mirrored, atol=scale / 4)
        assert np.unique(a.keypoints[0], axis=0).shape[0] > 1
