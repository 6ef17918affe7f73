# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Heatmap1DHead: the paper's size, labels, training and flip test."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from torch import nn

FLIP_INDICES = [0, 2, 1, 4, 3]
NUM_KEYPOINTS = len(FLIP_INDICES)


@pytest.fixture(autouse=True)
def mmpose_scope():
    init_default_scope('mmpose')
    torch.manual_seed(0)


def build(
    in_channels=16,
    out_channels=NUM_KEYPOINTS,
    in_featuremap_size=(3, 2),
    deconv_out_channels=(24, 24, 24),
    deconv1d_out_channels=(24, 24),
    decoder=None,
    **kwargs,
):
    decoder = (
        dict(
            type='SimCCCodec',
            input_size=tuple(32 * n for n in in_featuremap_size),
            simcc_split_ratio=1,
            sigma=2.0,
            score='maximum',
        )
        if decoder is None
        else decoder
    )
    return MODELS.build(
        dict(
            type='Heatmap1DHead',
            in_channels=in_channels,
            out_channels=out_channels,
            in_featuremap_size=in_featuremap_size,
            deconv_out_channels=deconv_out_channels,
            deconv1d_out_channels=deconv1d_out_channels,
            decoder=decoder,
            **kwargs,
        )
    )


def make_samples(codec, keypoints):
    samples = []
    for points in keypoints:
        encoded = codec.encode(points[None])
        sample = PoseDataSample(metainfo=dict(flip_indices=FLIP_INDICES))
        sample.gt_instance_labels = InstanceData(
            **{key: torch.from_numpy(encoded[key]) for key in codec.label_mapping_table}
        )
        samples.append(sample)
    return samples


def paper_count(model, image):
    """Parameters in millions, and multiply-adds of convolutions / 2^30 with a
    transposed convolution as weights times output positions."""
    flops = []
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)):
            module.register_forward_hook(
                lambda m, _, out: flops.append(m.weight.numel() * out[0, 0].numel())
            )
    model.eval()
    with torch.no_grad():
        model(image)
    return (sum(p.numel() for p in model.parameters()) / 1e6, sum(flops) / 2**30)


def test_size_in_the_paper():
    """SimCC, Table 3: SimBa-R50 at 256x256 has 39.0M parameters and 14.4
    GFLOPs, and its 2-D heatmaps 34.0M and 12.0, the check of the count."""
    wide = dict(deconv_out_channels=(256, 256, 256))
    one_d = build(2048, 17, (8, 8), deconv1d_out_channels=(256, 256), **wide)
    two_d = MODELS.build(dict(type='HeatmapHead', in_channels=2048, out_channels=17, **wide))
    for head, expected, tolerance in ((one_d, (39.0, 14.4), 0.05), (two_d, (34.0, 12.0), 0.005)):
        model = nn.Sequential(MODELS.build(dict(type='ResNet', depth=50)), head)
        count = paper_count(model, torch.zeros(1, 3, 256, 256))
        assert count == pytest.approx(expected, rel=tolerance)
    # "5" deconvolutions
    path = [*one_d.deconv_head.modules(), *one_d.upsample_x.modules()]
    assert sum(isinstance(m, (nn.ConvTranspose1d, nn.ConvTranspose2d)) for m in path) == 5


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (6, 8), (5, 7)])
def test_any_size(size):
    head = build(in_featuremap_size=size)
    x, y = head((torch.randn(2, 16, *size[::-1]),))
    assert x.shape == (2, NUM_KEYPOINTS, 32 * size[0])
    assert y.shape == (2, NUM_KEYPOINTS, 32 * size[1])


def test_axes_are_treated_alike():
    """With the weights of the axes exchanged, a transposed map gives
    exchanged heatmaps."""
    head = build(in_featuremap_size=(2, 2))
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    head.eval()
    swapped = build(in_featuremap_size=(2, 2))
    swapped.load_state_dict(
        {
            '.'.join(
                part.translate(str.maketrans('xy', 'yx')) if part[-2:] in ('_x', '_y') else part
                for part in name.split('.')
            ): value
            for name, value in head.state_dict().items()
        }
    )
    # the affinity is read from x to y
    swapped.co_attention.affinity.weight.data.copy_(
        head.co_attention.affinity.weight.data.transpose(0, 1)
    )
    swapped.eval()
    # maps that the 2-D deconvolutions do not see transposed
    head.deconv_head = swapped.deconv_head = nn.Identity()
    maps = torch.randn(1, 24, 16, 16)
    head.deconv_head.forward = swapped.deconv_head.forward = lambda f: f[-1]
    x, y = head((maps,))
    swapped_x, swapped_y = swapped((maps.transpose(2, 3),))
    torch.testing.assert_close(x, swapped_y)
    torch.testing.assert_close(y, swapped_x)


def test_co_attention_relates_the_axes():
    head = build(in_featuremap_size=(2, 2)).eval()
    x, y = torch.randn(2, 24, 16), torch.randn(2, 24, 16)
    for parameter in head.co_attention.parameters():
        nn.init.normal_(parameter)
    before = head.co_attention(x, y)
    after = head.co_attention(x, torch.randn(2, 24, 16))
    assert not torch.allclose(before[0], after[0])


def test_targets_have_height_1():
    """The loss is 0 for Gaussians of height 1 around the keypoints, and does
    not count keypoints outside the image."""
    head = build()
    keypoints = np.array(
        [[[20.3, 30.0], [5.0, 6.7], [90.0, 3.0], [50.5, 60.0], [-40.0, 20.0]]], dtype=np.float32
    )
    samples = make_samples(head.decoder, keypoints)
    target = [
        np.exp(-((np.arange(n) - keypoints[..., axis, None]) ** 2) / (2 * 2.0**2))
        for axis, n in enumerate((96, 64))
    ]
    head.forward = lambda feats: tuple(torch.from_numpy(t).float() for t in target)
    losses = head.loss(None, samples)
    assert float(losses['loss_kpt']) < 1e-10
    assert losses['acc_pose'] == 1
    for t in target:
        t[0, 4] += 1  # weight 0
    assert float(head.loss(None, samples)['loss_kpt']) < 1e-10
    for t in target:
        t[0, 3] += 1
    assert float(head.loss(None, samples)['loss_kpt']) == pytest.approx(2 / NUM_KEYPOINTS, rel=1e-5)


@pytest.mark.slow
def test_learns_and_predicts():
    """Two images are learned by heart, features and all."""
    head = build()
    head.init_weights()
    keypoints = (
        np.random.default_rng(0).uniform((5, 5), (90, 58), (2, NUM_KEYPOINTS, 2)).astype(np.float32)
    )
    samples = make_samples(head.decoder, keypoints)
    feats = nn.Parameter(torch.randn(2, 16, 2, 3))
    optimizer = torch.optim.Adam([feats, *head.parameters()], 5e-3)
    for _ in range(150):
        losses = head.loss((feats,), samples)
        optimizer.zero_grad()
        losses['loss_kpt'].backward()
        optimizer.step()
    preds, fields = head.predict((feats,), samples, dict(output_heatmaps=True))
    found = np.concatenate([p.keypoints for p in preds])
    assert np.abs(found - keypoints).max() < 1.01
    scores = np.concatenate([p.keypoint_scores for p in preds])
    assert ((scores > 0.7) & (scores < 1.2)).all()
    for field, pred in zip(fields, found):
        peaks = field.heatmaps.flatten(1).argmax(1)
        np.testing.assert_array_equal(peaks % 96, pred[:, 0])
        np.testing.assert_array_equal(peaks // 96, pred[:, 1])


def test_flip_test_is_symmetric():
    head = build()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    head.eval()
    samples = [PoseDataSample(metainfo=dict(flip_indices=FLIP_INDICES))]
    feats = [(torch.randn(1, 16, 2, 3),) for _ in range(2)]
    a = head.predict(feats, samples, dict(flip_test=True))[0]
    b = head.predict(feats[::-1], samples, dict(flip_test=True))[0]
    mirrored = b.keypoints[:, FLIP_INDICES]
    mirrored[..., 0] = 95 - mirrored[..., 0]
    np.testing.assert_array_equal(a.keypoints, mirrored)
    assert len(np.unique(a.keypoints[0], axis=0)) > 1


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(score='softmax'), "score = 'maximum'"),
        (dict(refine='dark'), "refine = 'none'"),
        (dict(normalize=False, label_softmax=True), 'normalize = True'),
        (dict(label_smoothing='equal'), "label_smoothing = 'gaussian'"),
        (dict(simcc_split_ratio=2), r'num_bins = \(96, 64\)'),
        (dict(input_size=(96, 96)), r'num_bins = \(96, 64\)'),
    ],
)
def test_decoder_must_fit(change, message):
    decoder = dict(type='SimCCCodec', input_size=(96, 64), simcc_split_ratio=1, score='maximum')
    build(decoder=decoder)
    with pytest.raises(ValueError, match=message):
        build(decoder={**decoder, **change})
