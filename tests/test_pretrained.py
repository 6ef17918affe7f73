# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""EfficientNet-Lite0 with ImageNet weights as a backbone."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from mmpose_simcc.utils.inference import build_model, load_config
from mmpose_simcc.weights import (
    convert_efficientnet_lite0,
    is_efficientnet_lite0,
    save_weights,
)

timm = pytest.importorskip('timm')
CONFIG = 'configs/face_2d_keypoint/pretrained/300w/simcc_effnet-lite0-in1k_1xb16-15e_300w-64x64.py'


@pytest.fixture(scope='module')
def classifier():
    """timm's model with random weights; statistics that are not those of a new layer."""
    torch.manual_seed(0)
    model = timm.create_model('tf_efficientnet_lite0')
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope='module')
def package_weights(classifier):
    """The same weights under names like those of the package, in its order."""
    weights = {}
    for index, (name, value) in enumerate(classifier.state_dict().items()):
        layer, _, last = name.rpartition('.')
        weights[f'_layer{index}.{last}'] = value
    names = list(weights)
    renamed = {names[0]: '_conv_stem.weight', names[6]: '_blocks.0._depthwise_conv.weight'}
    return {renamed.get(name, name): value for name, value in weights.items()}


def test_outputs_are_those_of_the_original(classifier, package_weights, repo_root, tmp_path):
    """From the file to the features: what timm computes before its last convolution."""
    assert is_efficientnet_lite0(package_weights)
    save_weights(tmp_path / 'backbone.pth', convert_efficientnet_lite0(package_weights), {})
    model = build_model(load_config(str(repo_root / CONFIG)))
    load_checkpoint(model.backbone, str(tmp_path / 'backbone.pth'), strict=True)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (features,) = model.backbone(image)
        expected = classifier.blocks(classifier.bn1(classifier.conv_stem(image)))
    assert features.shape == (1, 320, 2, 2)
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


def test_other_weights_are_refused(package_weights):
    fewer = dict(list(package_weights.items())[:-1])
    with pytest.raises(ValueError, match='295 tensors, not 296'):
        convert_efficientnet_lite0(fewer)
    swapped = dict(package_weights)
    name = '_conv_stem.weight'
    swapped[name] = swapped[name][:, :1]
    with pytest.raises(ValueError, match='_conv_stem.weight'):
        convert_efficientnet_lite0(swapped)


def test_configs_name_the_weights(repo_root):
    folder = repo_root / 'configs'
    configs = sorted(folder.glob('*_2d_keypoint/pretrained/*/*.py'))
    assert len(configs) == 8
    for path in configs:
        cfg = Config.fromfile(path)
        assert cfg.model.backbone.init_cfg.checkpoint == 'checkpoints/efficientnet-lite0_in1k.pth'
        assert 'mmpretrain.models' in cfg.custom_imports.imports
