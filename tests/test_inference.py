# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Weights that MMPose itself loads are loaded here, and no others."""

import re
from collections import OrderedDict

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmpose.registry import MODELS

from mmpose_simcc.utils.inference import load_weights

HEATMAP = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=2)
INTEGRAL = dict(
    type='IntegralRegressionLabel', input_size=(64, 64), heatmap_size=(16, 16), sigma=2.0
)
REGRESSION = dict(type='RegressionLabel', input_size=(64, 64))
DECONVS = dict(deconv_out_channels=(8, 8, 8), deconv_kernel_sizes=(4, 4, 4))

# the head of a model, and how 0.x named its parameters where not as today
OLD = {
    'HeatmapHead': (dict(type='HeatmapHead', in_channels=512, **DECONVS, decoder=HEATMAP), {}),
    'HeatmapHead, convolutions': (
        dict(
            type='HeatmapHead',
            in_channels=512,
            deconv_out_channels=None,
            conv_out_channels=(8,),
            conv_kernel_sizes=(1,),
            decoder=HEATMAP,
        ),
        # 0.x counted the last one with the others: conv, norm, relu, last
        {r'conv_layers\.': 'final_layer.', r'final_layer\.(?=\w+$)': 'final_layer.3.'},
    ),
    'ViPNASHead': (
        dict(
            type='ViPNASHead',
            in_channels=512,
            deconv_out_channels=(16, 16, 16),
            decoder=HEATMAP,
        ),
        {},
    ),
    'CPMHead': (
        dict(type='CPMHead', in_channels=512, num_stages=1, decoder=HEATMAP),
        {},
    ),
    'RegressionHead': (
        dict(type='RegressionHead', in_channels=512, num_joints=3, decoder=REGRESSION),
        {},
    ),
    'RLEHead': (
        dict(type='RLEHead', in_channels=512, num_joints=3, decoder=REGRESSION),
        {r'loss_module\.': 'loss.'},
    ),
    'IntegralRegressionHead': (
        dict(
            type='IntegralRegressionHead',
            in_channels=512,
            in_featuremap_size=(2, 2),
            num_joints=3,
            **DECONVS,
            decoder=INTEGRAL,
        ),
        {},
    ),
    'DSNTHead': (
        dict(
            type='DSNTHead',
            in_channels=512,
            in_featuremap_size=(2, 2),
            num_joints=3,
            **DECONVS,
            loss=dict(
                type='MultipleLossWrapper',
                losses=[
                    dict(type='SmoothL1Loss', use_target_weight=True),
                    dict(type='KeypointMSELoss', use_target_weight=True),
                ],
            ),
            decoder=INTEGRAL,
        ),
        # pretrained by a model of heatmaps, as the stock config of it is
        {
            r'simplebaseline_head\.deconv_layers': 'deconv_layers',
            r'simplebaseline_head\.final_layer': 'final_layer',
        },
    ),
}


def build(head, seed):
    torch.manual_seed(seed)
    head = dict(head)
    if 'num_joints' not in head:
        head['out_channels'] = 3
    pooled = head['decoder']['type'] == 'RegressionLabel'
    return MODELS.build(
        dict(
            type='TopdownPoseEstimator',
            backbone=dict(type='ResNet', depth=18),
            neck=dict(type='GlobalAveragePooling') if pooled else None,
            head=head,
        )
    )


def old_names(model, renamed):
    """The model's weights as a file of 0.x holds them: without versions."""
    state = OrderedDict()
    for name, value in model.state_dict().items():
        if name.startswith('head.'):
            name = name[len('head.') :]
            for new, old in renamed.items():
                name, done = re.subn('^' + new, old, name)
                if done:
                    break
            name = 'keypoint_head.' + name
        state[name] = value
    return state


def same(model, other):
    other = other.state_dict()
    return all(torch.equal(value, other[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('head,renamed', OLD.values(), ids=OLD)
def test_weights_of_0_x(tmp_path, head, renamed):
    path = str(tmp_path / 'old.pth')
    trained = build(head, 0)
    torch.save(dict(meta={}, state_dict=old_names(trained, renamed)), path)
    ours, stock = build(head, 1), build(head, 1)
    assert not same(ours, trained)
    load_weights(ours, path)
    load_checkpoint(stock, path, strict=True)
    assert same(stock, trained)
    assert same(ours, stock)


@pytest.mark.parametrize('head,renamed', OLD.values(), ids=OLD)
def test_weights_of_1_x(tmp_path, head, renamed):
    """With their versions, as MMEngine saves them, and from a wrapped model."""
    path = str(tmp_path / 'new.pth')
    trained, model = build(head, 0), build(head, 1)
    state = trained.state_dict()
    torch.save(dict(state_dict=state), path)
    load_weights(model, path)
    assert same(model, trained)

    wrapped = OrderedDict(('module.' + name, value) for name, value in state.items())
    wrapped._metadata = state._metadata
    torch.save(wrapped, path)
    model = build(head, 1)
    load_weights(model, path)
    assert same(model, trained)


@pytest.mark.parametrize(
    'change,problem',
    [
        (dict(removed='keypoint_head.final_layer.weight'), 'has no `head.final_layer.weight`'),
        (dict(added='keypoint_head.other'), 'has `head.other`, which the model does not have'),
        (
            dict(reshaped='keypoint_head.final_layer.bias'),
            r'has `head.final_layer.bias` of shape \(5\), the model \(3\)',
        ),
        # a conversion that fails: there are no intermediate convolutions
        (dict(added='keypoint_head.final_layer.0.weight'), 'cannot be loaded: AssertionError'),
    ],
)
def test_other_weights_of_0_x(tmp_path, change, problem):
    path = str(tmp_path / 'old.pth')
    head, renamed = OLD['HeatmapHead']
    state = old_names(build(head, 0), renamed)
    if 'removed' in change:
        del state[change['removed']]
    else:
        state[change.get('added') or change['reshaped']] = torch.zeros(5)
    torch.save(dict(state_dict=state), path)
    with pytest.raises(ValueError, match=problem) as error:
        load_weights(build(head, 1), path)
    assert str(error.value).startswith(f'checkpoint {path} is of another model: it ')
    assert len(str(error.value).splitlines()) == 1
