# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from mmengine.utils import digit_version
from mmpose.models.losses.classification_loss import KLDiscretLoss
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from mmpose.testing import get_packed_inputs
from mmpose.utils import register_all_modules

from mmpose_simcc import SimCCClassifierHead, SimCCCodec, SimCCKLLoss

register_all_modules()
DECODER = dict(type='SimCCCodec', input_size=(48, 64))


def make_head(**kwargs):
    args = dict(in_channels=6, out_channels=5, in_featuremap_size=(3, 4), decoder=DECODER)
    return SimCCClassifierHead(**{**args, **kwargs})


def labels_of(codec, batch_size, num_keypoints=5, seed=0):
    """Data samples with encoded labels, and some weights of zero."""
    rng = np.random.default_rng(seed)
    w, h = codec.input_size
    samples = []
    for _ in range(batch_size):
        keypoints = rng.uniform(0, 1, (1, num_keypoints, 2)) * (w, h)
        visible = (rng.random((1, num_keypoints)) > 0.3).astype(np.float32)
        encoded = codec.encode(keypoints, visible)
        sample = PoseDataSample(metainfo=dict(flip_indices=[0, 2, 1, 4, 3][:num_keypoints]))
        sample.gt_instance_labels = InstanceData()
        for key, value in encoded.items():
            sample.gt_instance_labels.set_field(torch.from_numpy(value), key)
        samples.append(sample)
    return samples


class TestForward:
    @pytest.mark.parametrize('channels', [1, 7, 32])
    @pytest.mark.parametrize('deconvs', [None, (8,), (8, 8, 8)])
    def test_feature_maps(self, channels, deconvs):
        head = make_head(
            channels_per_keypoint=channels,
            deconv_out_channels=deconvs,
            deconv_kernel_sizes=[4] * len(deconvs or ()),
        )
        x, y = head((torch.rand(2, 6, 4, 3),))
        assert x.shape == (2, 5, 96) and y.shape == (2, 5, 128)
        cells = 12 * 4 ** len(deconvs or ())
        assert head.mlp_head_x.in_features == channels * cells

    def test_a_keypoint_owns_neighbouring_channels(self):
        """By hand: convolve, cut into keypoints, flatten, multiply."""
        head = make_head(channels_per_keypoint=3)
        feats = torch.rand(2, 6, 4, 3)
        maps = head.final_layer(feats)
        actual, _ = head((feats,))
        for k in range(5):
            flat = maps[:, 3 * k : 3 * k + 3].flatten(1)
            torch.testing.assert_close(actual[:, k], head.mlp_head_x(flat))

    def test_tokens(self):
        head = make_head(in_channels=24, in_featuremap_size=None)
        tokens = torch.rand(2, 5, 24)
        x, y = head((tokens,))
        torch.testing.assert_close(
            x[:, 3], tokens[:, 3] @ head.mlp_head_x.weight.t() + head.mlp_head_x.bias
        )
        assert y.shape == (2, 5, 128)
        assert sum(p.numel() for p in head.parameters()) == 25 * (96 + 128)

    def test_last_feature_map_is_used(self):
        head = make_head()
        feats = torch.rand(2, 6, 4, 3)
        torch.testing.assert_close(head((torch.rand(2, 9, 8, 6), feats))[0], head((feats,))[0])

    def test_stock_head_loads(self):
        """Same parameter names as stock SimCCHead's, same outputs."""
        for deconvs in (None, (8, 8)):
            kwargs = dict(
                in_channels=6,
                out_channels=5,
                input_size=(48, 64),
                in_featuremap_size=(3, 4),
                simcc_split_ratio=2.0,
                deconv_out_channels=deconvs,
                deconv_kernel_sizes=(4, 4),
            )
            stock = MODELS.build(dict(type='SimCCHead', **kwargs)).eval()
            ours = SimCCClassifierHead(**kwargs).eval()
            ours.load_state_dict(stock.state_dict(), strict=True)
            feats = (torch.rand(2, 6, 4, 3),)
            for actual, expected in zip(ours(feats), stock(feats)):
                torch.testing.assert_close(actual, expected)

    def test_vipnas_deconvolutions(self):
        head = make_head(
            deconv_type='vipnas', deconv_out_channels=(8, 8, 8), deconv_num_groups=(2, 2, 2)
        )
        assert head((torch.rand(1, 6, 4, 3),))[0].shape == (1, 5, 96)

    def test_without_final_layer(self):
        head = make_head(in_channels=10, channels_per_keypoint=2, final_layer=None)
        assert head((torch.rand(1, 10, 4, 3),))[0].shape == (1, 5, 96)
        assert head.final_layer is None


class TestArguments:
    def test_size_and_ratio_follow_the_decoder(self):
        head = make_head(decoder=dict(DECODER, simcc_split_ratio=3))
        assert head.input_size == (48, 64)
        assert head.mlp_head_x.out_features == 144

    @pytest.mark.parametrize(
        'kwargs,named',
        [
            (dict(input_size=(64, 64)), 'input_size'),
            (dict(simcc_split_ratio=3), 'simcc_split_ratio'),
            (dict(decoder=None), 'input_size'),
            (dict(channels_per_keypoint=0), 'channels_per_keypoint'),
            (dict(in_channels=-1), 'in_channels'),
            (dict(in_featuremap_size=4), 'in_featuremap_size'),
            (dict(in_featuremap_size=None, channels_per_keypoint=2), 'in_featuremap_size'),
            (dict(deconv_type='unet'), 'deconv_type'),
        ],
    )
    def test_errors(self, kwargs, named):
        with pytest.raises(ValueError, match=f'`{named}` must be'):
            make_head(**kwargs)


class TestPredict:
    def test_decodes_logits(self):
        head = make_head()
        samples = labels_of(head.decoder, 3)
        feats = (torch.rand(3, 6, 4, 3),)
        preds = head.predict(feats, samples)
        expected = head.decoder.batch_decode(*head(feats))
        for pred, keypoints, scores in zip(preds, *expected):
            np.testing.assert_array_equal(pred.keypoints, keypoints)
            np.testing.assert_array_equal(pred.keypoint_scores, scores)

    def test_flip_test_averages_aligned_logits(self):
        """Token logits of an image and its mirror image, planted so that
        both say the same: the average must say it too."""
        codec = SimCCCodec((48, 64), sigma=3.0)
        head = make_head(in_channels=224, in_featuremap_size=None)
        with torch.no_grad():  # logits = tokens
            head.mlp_head_x.weight.copy_(torch.eye(224)[:96])
            head.mlp_head_y.weight.copy_(torch.eye(224)[96:])
            head.mlp_head_x.bias.zero_()
            head.mlp_head_y.bias.zero_()
        rng = np.random.default_rng(0)
        points = rng.integers(10, 76, (1, 5, 2)) / 2

        def tokens(points):
            encoded = codec.encode(points)
            return torch.log(
                torch.cat(
                    [torch.from_numpy(encoded[f'keypoint_{axis}_labels']) for axis in 'xy'], -1
                )
                + 1e-6
            )

        samples = labels_of(head.decoder, 1)
        flip_indices = samples[0].metainfo['flip_indices']
        mirrored = points[:, flip_indices].copy()
        mirrored[..., 0] = 47 - mirrored[..., 0]
        (pred,) = head.predict(
            [(tokens(points),), (tokens(mirrored),)], samples, dict(flip_test=True)
        )
        np.testing.assert_allclose(pred.keypoints, points, atol=1e-5)

    def test_output_heatmaps(self):
        head = make_head()
        feats = (torch.rand(2, 6, 4, 3),)
        samples = labels_of(head.decoder, 2)
        preds, fields = head.predict(feats, samples, dict(output_heatmaps=True))
        for pred, field in zip(preds, fields):
            x = pred.keypoint_x_labels[0]
            y = pred.keypoint_y_labels[0]
            assert x.shape == (5, 96) and y.shape == (5, 128)
            assert field.heatmaps.shape == (5, 128, 96)
            assert x.min() >= 0 and x.max() <= 1
            np.testing.assert_allclose(field.heatmaps, y[:, :, None] * x[:, None], rtol=1e-5)
            # the product peaks at the prediction
            flat = field.heatmaps.flatten(1).argmax(1)
            peaks = torch.stack([flat % 96, flat // 96], -1) / 2
            np.testing.assert_array_equal(peaks, pred.keypoints[0])

    def test_no_decoder(self):
        head = make_head(decoder=None, input_size=(48, 64), simcc_split_ratio=2)
        with pytest.raises(RuntimeError, match='decoder has not been set'):
            head.predict((torch.rand(1, 6, 4, 3),), [])


class TestLoss:
    def test_values_and_gradients(self):
        head = make_head()
        samples = labels_of(head.decoder, 4)
        feats = (torch.rand(4, 6, 4, 3),)
        losses = head.loss(feats, samples)
        losses['loss_kpt'].backward()
        assert all(p.grad.isfinite().all() for p in head.parameters())
        assert 0 <= losses['acc_pose'] <= 1
        assert 'acc_pose' not in head.loss(feats, samples, dict(compute_acc=False))

    def test_accuracy_is_one_for_the_labels_themselves(self):
        from mmpose_simcc.models.heads.base_simcc_head import _accuracy

        codec = SimCCCodec((48, 64))
        labels = [s.gt_instance_labels for s in labels_of(codec, 3)]
        target = tuple(
            torch.cat([label.get(f'keypoint_{axis}_labels') for label in labels]) for axis in 'xy'
        )
        mask = torch.cat([label.keypoint_weights for label in labels]) > 0
        assert _accuracy(target, target, mask) == 1
        moved = (target[0].roll(20, -1), target[1])
        assert _accuracy(moved, target, mask) < 0.2
        assert _accuracy(moved, target, mask & False) == 0


class TestSimCCKLLoss:
    def data(self, dtype=torch.float32):
        generator = torch.Generator().manual_seed(0)
        codec = SimCCCodec((48, 64))
        labels = [s.gt_instance_labels for s in labels_of(codec, 6)]
        target = tuple(
            torch.cat([label.get(f'keypoint_{axis}_labels') for label in labels]) for axis in 'xy'
        )
        pred = tuple((4 * torch.randn(t.shape, generator=generator)).to(dtype) for t in target)
        weight = torch.rand(6, 5, generator=generator)
        return pred, target, weight

    def test_paper_reduction_in_float64(self):
        pred, target, weight = self.data()
        expected = 0
        for logits, label in zip(pred, target):
            t, z = label.double(), logits.double()
            kl = torch.xlogy(t, t) - t * z.log_softmax(-1)
            expected += (kl.sum(-1) * weight).mean()
        actual = SimCCKLLoss()(pred, target, weight)
        assert actual.item() == pytest.approx(expected.item(), rel=1e-5)

    @pytest.mark.parametrize(
        'kwargs',
        [
            dict(use_target_weight=True),
            dict(use_target_weight=False),
            dict(use_target_weight=True, beta=3.0),
            dict(use_target_weight=True, beta=10.0, label_softmax=True),
            dict(label_softmax=True, label_beta=5.0),
            dict(use_target_weight=True, mask=[1, 3], mask_weight=0.2),
        ],
    )
    def test_stock_reduction_gives_stock_values(self, kwargs):
        import inspect

        known = inspect.signature(KLDiscretLoss).parameters
        if not set(kwargs) <= set(known):
            pytest.skip('this MMPose does not have these arguments yet')
        pred, target, weight = self.data()
        expected = KLDiscretLoss(**kwargs)(pred, target, weight)
        actual = SimCCKLLoss(**kwargs, reduction='stock')(pred, target, weight)
        assert actual.item() == pytest.approx(expected.item(), rel=1e-5)
        # never inferred from the arguments
        mean = SimCCKLLoss(**kwargs)(pred, target, weight)
        assert abs(mean.item() / expected.item() - 1) > 0.5

    @pytest.mark.parametrize('reduction', ['mean', 'stock'])
    def test_no_samples(self, reduction):
        pred = tuple(torch.zeros(0, 5, n, requires_grad=True) for n in (96, 128))
        loss = SimCCKLLoss(reduction=reduction)(pred, pred, torch.zeros(0, 5))
        loss.backward()
        assert loss == 0

    def test_reductions_of_the_published_code(self):
        """What the docstring says of them, for K keypoints and L bins."""
        pred, target, _ = self.data()
        N, K, _ = pred[0].shape
        ones = torch.ones(N, K)
        mean = SimCCKLLoss()(pred, target, ones)
        by_axis = [
            torch.nn.functional.kl_div(z.log_softmax(-1), t, reduction='none').sum(-1)
            for z, t in zip(pred, target)
        ]
        equal = sum(kl.mean(0).sum() for kl in by_axis)  # over bins and keypoints
        gaussian = sum(kl.mean() / t.shape[-1] for kl, t in zip(by_axis, target))
        assert (equal / mean).item() == pytest.approx(K, rel=1e-4)
        assert 96 < (mean / gaussian).item() < 128

    def test_half_precision_is_computed_in_float32(self):
        pred, target, weight = self.data(torch.float16)
        actual = SimCCKLLoss()(pred, target, weight)
        expected = SimCCKLLoss()(tuple(p.float() for p in pred), target, weight)
        assert actual.dtype == torch.float32 and actual == expected

    def test_errors(self):
        with pytest.raises(ValueError, match='`reduction` must be'):
            SimCCKLLoss(reduction='sum')
        with pytest.raises(ValueError, match='`beta` must be'):
            SimCCKLLoss(beta=0)


@pytest.mark.parametrize(
    'backbone,neck,in_channels,cells',
    [
        (dict(type='ResNet', depth=18), None, 512, (2, 2)),
        (dict(type='MobileNetV2', out_indices=(7,)), None, 1280, (2, 2)),
        (
            dict(
                type='LiteHRNet',
                in_channels=3,
                extra=dict(
                    stem=dict(stem_channels=32, out_channels=32, expand_ratio=1),
                    num_stages=1,
                    stages_spec=dict(
                        num_modules=(1,),
                        num_branches=(2,),
                        num_blocks=(1,),
                        module_type=('LITE',),
                        with_fuse=(True,),
                        reduce_ratios=(8,),
                        num_channels=((40, 80),),
                    ),
                    with_head=True,
                ),
            ),
            None,
            40,
            (16, 16),
        ),
        (
            dict(type='ResNet', depth=18, out_indices=(2, 3)),
            dict(type='FeatureMapProcessor', concat=True),
            768,
            (4, 4),
        ),
    ],
)
def test_with_stock_backbones_and_necks(backbone, neck, in_channels, cells):
    """Train and predict through the stock top-down estimator."""
    from mmengine.config import ConfigDict

    model = MODELS.build(
        ConfigDict(
            type='TopdownPoseEstimator',
            data_preprocessor=dict(type='PoseDataPreprocessor'),
            backbone=backbone,
            neck=neck,
            head=dict(
                type='SimCCClassifierHead',
                in_channels=in_channels,
                out_channels=17,
                in_featuremap_size=cells,
                decoder=dict(type='SimCCCodec', input_size=(64, 64)),
            ),
            test_cfg=dict(flip_test=True),
        )
    )
    inputs = get_packed_inputs(2, img_shape=(64, 64), input_size=(64, 64), with_simcc_label=True)
    data = model.data_preprocessor(inputs, training=True)
    losses = model(**data, mode='loss')
    assert losses['loss_kpt'].isfinite()
    with torch.no_grad():
        results = model.eval()(**data, mode='predict')
    assert results[0].pred_instances.keypoints.shape == (1, 17, 2)
    assert np.isfinite(results[0].pred_instances.keypoints).all()


def test_mmpose_version_is_supported():
    import mmpose

    assert digit_version('1.2.0') <= digit_version(mmpose.__version__) < digit_version('1.4.0')
