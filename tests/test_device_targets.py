# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Labels made on the training device equal those made by data workers."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS, TRANSFORMS

from mmpose_simcc.config import set_representation

SIZE = dict(input_size=(48, 64))
HEATMAP = dict(**SIZE, heatmap_size=(12, 16), sigma=2)
CODECS = {
    'biased': dict(type='HeatmapCodec', **HEATMAP),
    'unbiased': dict(type='DARKCodec', **HEATMAP),
    'simcc': dict(type='SimCCCodec', **SIZE),
    'equal': dict(type='SimCCCodec', **SIZE, label_smoothing='equal'),
    'bins': dict(type='SimCCCodec', **SIZE, label_smoothing='equal', dense_labels=False),
}


def collated(encoder, dataset_weights=None):
    """A batch of samples as it leaves the data workers."""
    init_default_scope('mmpose')
    rng = np.random.default_rng(0)
    generate = TRANSFORMS.build(
        dict(
            type='GenerateTarget',
            encoder=encoder,
            use_dataset_keypoint_weights=dataset_weights is not None,
        )
    )
    pack = TRANSFORMS.build(dict(type='PackPoseInputs'))
    samples = []
    for _ in range(4):
        results = dict(
            img=np.zeros((64, 48, 3), dtype=np.uint8),
            # some far outside the image
            transformed_keypoints=rng.uniform(-40, 100, (1, 17, 2)),
            keypoints_visible=rng.integers(0, 2, (1, 17)).astype(np.float32),
            dataset_keypoint_weights=dataset_weights,
        )
        samples.append(pack(generate(results)))
    return pseudo_collate(samples)


def preprocess(codec, targets, dataset_weights=None):
    kind, encoder = dict(
        worker=(dict(type='PoseDataPreprocessor'), codec),
        device=(dict(type='TargetDataPreprocessor', codec=codec), dict(type='CoordinateCodec')),
    )[targets]
    data = collated(encoder, dataset_weights)
    return MODELS.build(kind)(data, training=True)['data_samples']


def make_head(codec):
    init_default_scope('mmpose')
    if codec['type'] == 'SimCCCodec':
        return MODELS.build(
            dict(
                type='SimCCClassifierHead',
                in_channels=8,
                out_channels=17,
                in_featuremap_size=(3, 4),
                decoder=codec,
            )
        )
    return MODELS.build(
        dict(
            type='HeatmapHead',
            in_channels=8,
            out_channels=17,
            deconv_out_channels=(8, 8),
            deconv_kernel_sizes=(4, 4),
            loss=dict(type='KeypointMSELoss', use_target_weight=True),
            decoder=codec,
        )
    )


@pytest.mark.parametrize('name', CODECS)
class TestLabels:
    def test_equal_those_of_workers(self, name):
        weights = np.linspace(0.3, 1.5, 17).astype(np.float32)
        for use in (None, weights):
            expected = preprocess(CODECS[name], 'worker', use)
            actual = preprocess(CODECS[name], 'device', use)
            for one, other in zip(actual, expected):
                for key, labels in other.gt_instance_labels.items():
                    torch.testing.assert_close(
                        one.gt_instance_labels[key].float(), labels.float(), atol=1e-6, rtol=0
                    )
                if 'gt_fields' in other:
                    torch.testing.assert_close(
                        one.gt_fields.heatmaps, other.gt_fields.heatmaps, atol=1e-6, rtol=0
                    )

    def test_heads_train_on_them(self, name):
        torch.manual_seed(0)
        head = make_head(CODECS[name])
        feats = (torch.randn(4, 8, 4, 3),)
        losses = [
            head.loss(feats, preprocess(CODECS[name], targets)) for targets in ('device', 'worker')
        ]
        torch.testing.assert_close(*(loss['loss_kpt'] for loss in losses))
        torch.testing.assert_close(*(loss['acc_pose'] for loss in losses))
        losses[0]['loss_kpt'].backward()


class TestConfig:
    def test_one_argument_switches(self):
        cfg = Config(
            dict(
                model=dict(
                    type='TopdownPoseEstimator',
                    data_preprocessor=dict(type='PoseDataPreprocessor', mean=[1, 2, 3]),
                    head=dict(
                        type='HeatmapHead',
                        in_channels=8,
                        out_channels=17,
                        decoder=dict(type='MSRAHeatmap', **HEATMAP),
                    ),
                ),
                train_pipeline=[
                    dict(type='TopdownAffine', input_size=(48, 64)),
                    dict(type='GenerateTarget', encoder=dict(type='MSRAHeatmap', **HEATMAP)),
                ],
            )
        )
        set_representation(cfg, CODECS['biased'], targets='device')
        preprocessor = cfg.model.data_preprocessor
        assert preprocessor.type == 'TargetDataPreprocessor'
        assert preprocessor.mean == [1, 2, 3]
        assert preprocessor.codec == cfg.model.head.decoder
        assert cfg.train_pipeline[1].encoder == dict(type='CoordinateCodec')

    def test_errors(self):
        with pytest.raises(ValueError, match='targets'):
            set_representation({}, CODECS['biased'], targets='gpu')
        with pytest.raises(ValueError, match='codec'):
            MODELS.build(
                dict(type='TargetDataPreprocessor', codec=dict(type='MSRAHeatmap', **HEATMAP))
            )
        with pytest.raises(ValueError, match='dense_labels'):
            make_head({**CODECS['simcc'], 'dense_labels': False})


def test_workers_send_coordinates_alone():
    samples = collated(dict(type='CoordinateCodec'))['data_samples']
    assert all('gt_fields' not in sample for sample in samples)
    labels = samples[0].gt_instance_labels
    assert sum(value.nbytes for value in labels.values()) == 17 * 4 * 4


def test_test_samples_pass_unchanged():
    init_default_scope('mmpose')
    pack = TRANSFORMS.build(dict(type='PackPoseInputs'))
    image = np.zeros((64, 48, 3), dtype=np.uint8)
    data = pseudo_collate([pack(dict(img=image))])
    preprocessor = MODELS.build(dict(type='TargetDataPreprocessor', codec=CODECS['simcc']))
    sample = preprocessor(data)['data_samples'][0]
    assert not sample.gt_instance_labels.keys()


def test_bytes_from_worker_to_trainer():
    """A sample at 384x288 shrinks to little more than its image."""
    sizes = {}
    big = dict(input_size=(288, 384), heatmap_size=(72, 96), sigma=3)
    for name, encoder in (
        ('worker', dict(type='HeatmapCodec', **big)),
        ('device', dict(type='CoordinateCodec')),
    ):
        sizes[name] = len(pickle.dumps(collated(encoder)['data_samples'][0]))
    assert sizes['worker'] > 450_000
    assert sizes['device'] < 5_000
