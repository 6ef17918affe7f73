# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Stock models compare as they stand, beside the decoders of this package."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from test_compare import load_run, stock_test, with_random_weights
from torch import nn

from mmpose_simcc.codecs.calibration import made_for, save_calibration
from mmpose_simcc.utils.inference import load_config, pose_head_cfg
from mmpose_simcc.workbench.calibration.calibrate import capture, samples_of_people
from mmpose_simcc.workbench.compare import CompareError, compare
from mmpose_simcc.workbench.compare.decoders import decoders_of
from mmpose_simcc.workbench.compare.evaluation import ForwardPass, evaluate
from mmpose_simcc.workbench.toy import make_toy_coco

HEATMAP_ROWS = ['stock', 'argmax', 'quarter', 'second_max', 'dark', 'daec', 'daec_symmetric']
CHANNELS = 16
FOLDER = 'mmpose::body_2d_keypoint/'
RTMW = 'mmpose::wholebody_2d_keypoint/rtmpose/cocktail14/rtmw-m_8xb1024-270e_cocktail14-256x192.py'
CONFIGS = {
    'heatmap': ('topdown_heatmap/coco/td-hm_mobilenetv2_8xb64-210e_coco-256x192', HEATMAP_ROWS),
    'udp': ('topdown_heatmap/coco/td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192', HEATMAP_ROWS),
    'udp offsets': (
        'topdown_heatmap/coco/td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192',
        ['stock'],
    ),
    'visibility': (
        'topdown_heatmap/coco/td-hm-vis_res50_8xb64-210e_coco-aic-256x192-merge',
        HEATMAP_ROWS,
    ),
    'megvii': ('topdown_heatmap/coco/td-hm_rsn18_8xb32-210e_coco-256x192', ['stock']),
    'simcc': (
        'simcc/coco/simcc_mobilenetv2_wo-deconv-8xb64-210e_coco-256x192',
        ['stock', 'argmax'],
    ),
    'rtmpose': ('rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192', ['stock', 'argmax']),
    'rtmw': (None, ['stock', 'argmax']),
    'regression': ('topdown_regression/coco/td-reg_res50_8xb64-210e_coco-256x192', ['stock']),
    'rle': (
        'topdown_regression/coco/td-reg_mobilenetv2_rle-pretrained-8xb64-210e_coco-256x192',
        ['stock'],
    ),
    'integral': ('integral_regression/coco/ipr_res50_8xb64-210e_coco-256x256', ['stock']),
}


@MODELS.register_module()
class SmallBody(BaseModule):
    """The least that gives feature maps of a size."""

    def __init__(self, channels, stride):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, stride, stride)

    def forward(self, x):
        return (self.conv(x),)


def with_small_body(cfg):
    """The model with few layers and channels before its head's last layers: what comes before them
    does not matter here."""
    model, head = cfg.model, pose_head_cfg(cfg)
    if model.backbone.type == 'RSN':  # maps of several stages
        model.backbone.update(unit_channels=CHANNELS, num_blocks=[1] * 4)
        head.unit_channels = CHANNELS
    elif head.type != 'RTMWHead':  # which takes two maps
        stride = 4 if model.backbone.type == 'HRNet' else 32
        model.backbone = dict(type='SmallBody', channels=CHANNELS, stride=stride)
        head.in_channels = CHANNELS
        if head.type in ('HeatmapHead', 'DSNTHead') and stride > 4:
            head.deconv_out_channels = [CHANNELS] * 3


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=1, val=6, seed=1, workers=1)
    return str(root)


def test_loss_that_cannot_be_built(toy_root):
    run = load_run(f'{FOLDER}{CONFIGS["rtmpose"][0]}.py')
    run.cfg.model.head.loss.type = 'NoLoss'
    with pytest.raises(CompareError, match='`model.head.loss`: KeyError.*NoLoss'):
        decoders_of(run)


def stock_run(kind, toy_root, folder):
    config, _ = CONFIGS[kind]
    path = f'{FOLDER}{config}.py'
    if kind == 'rtmw':  # a model of whole bodies, on COCO's keypoints
        cfg = load_config(f'{FOLDER}{CONFIGS["rtmpose"][0]}.py')
        cfg.model = load_config(RTMW).model
        cfg.model.head.out_channels = 17
        path = str(folder / 'rtmw.py')
        cfg.dump(path)
    return with_random_weights(path, toy_root, folder, gt_boxes=True, change=with_small_body)


@pytest.mark.parametrize('kind', CONFIGS)
def test_stock_row_equals_stock_test(kind, toy_root, tmp_path):
    _, names = CONFIGS[kind]
    run = stock_run(kind, toy_root, tmp_path)
    assert [*decoders_of(run)] == names
    if 'second_max' not in names and len(names) > 1:
        names = ['stock', 'argmax', 'dark', 'daec']  # along the axes
    rows = compare([run], tmp_path / 'work', names)
    assert [row.decoder for row in rows] == names
    assert all(row.decode_ms > 0 for row in rows)
    row = rows[0]
    metrics, predictions = stock_test(run, dict(run.head.decoder), tmp_path)
    assert {key: row.metrics[key] for key in metrics} == pytest.approx(metrics, abs=1e-12)
    own = json.loads(Path(f'{row.trainings[0].predictions}.keypoints.json').read_text())
    assert len(own) == len(predictions) > 5
    for mine, stock in zip(own, predictions):
        np.testing.assert_allclose(mine['keypoints'], stock['keypoints'])
        assert mine['score'] == pytest.approx(stock['score'])
    if kind in ('rtmpose', 'rtmw'):  # the argmax of the same outputs, by another codec
        arrays = {row.decoder: np.load(f'{row.trainings[0].predictions}.npz') for row in rows}
        # stock puts what has no logit above 0 beside the picture, at bin -1
        found = arrays['stock']['scores'] > 0
        assert found.sum() > 20
        keypoints = {name: arrays[name]['keypoints'][found] for name in ('stock', 'argmax')}
        np.testing.assert_allclose(keypoints['stock'], keypoints['argmax'], atol=1e-3)


@pytest.mark.parametrize('kind', ['simcc', 'rtmpose', 'rtmw', 'udp'])
def test_calibration_of_a_stock_model(kind, toy_root, tmp_path):
    """Its decoders find what those of a comparison find, and its file is for them."""
    run = stock_run(kind, toy_root, tmp_path)
    model, outputs, people = capture(run, run.checkpoint)
    held_out = np.arange(len(people)) % 2 > 0
    samples, _ = samples_of_people(people, outputs, run.cfg.test_evaluator, held_out)
    kept = next(iter(outputs.values()))
    decoders = decoders_of(run, ['argmax', 'dark'])
    content = dict(
        made_for=dict(made_for(kept.codec), num_keypoints=kept.scores.shape[1], flip_test='none'),
        decoder=kept.fixed['dark'],
        calibrated_on='some pictures',
        offset=[[1.0, -2.0]],
    )
    save_calibration(tmp_path / 'c.json', content)
    decoders['calibrated'] = dict(decoders['argmax'], calibration=str(tmp_path / 'c.json'))
    prefixes = {name: tmp_path / name for name in decoders}
    evaluate(ForwardPass(run, None, '', decoders, prefixes), [*decoders], run.checkpoint)
    for name, offset in (('argmax', 0), ('dark', 0), ('calibrated', [1.0, -2.0])):
        expected = np.load(tmp_path / f'{name}.npz')['keypoints']
        found = kept.predict(kept.fixed['argmax' if name == 'argmax' else 'dark']) - offset
        np.testing.assert_allclose(samples.to_image(found), expected, atol=0.01)
