# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Sizes of feature maps and heatmaps for another input size."""

import inspect
import math
from typing import Optional, Sequence, Tuple

from mmpose.registry import MODELS

from ..utils.checks import invalid
from ..utils.configs import type_name

# Deconvolutions, each of stride 2, that these heads have by default
DECONVS = dict(
    HeatmapHead=3, ViPNASHead=3, SimCCHead=3, DSNTHead=3, IntegralRegressionHead=3, CPMHead=0
)
# Backbones whose last feature map has stride 32, unless one of STRIDE_ARGUMENTS is changed
STRIDE_32 = (
    'ResNet',
    'ResNetV1d',
    'ResNeXt',
    'ResNeSt',
    'SEResNet',
    'SCNet',
    'MobileNetV2',
    'ShuffleNetV1',
    'ShuffleNetV2',
)
STRIDE_ARGUMENTS = ('out_indices', 'strides', 'dilations')
# Backbones that add feature maps of several strides, and the largest of these strides
COARSEST_STRIDE = dict(HRNet=32, LiteHRNet=32, HRFormer=32, HourglassNet=128)


def num_deconvs(head: dict) -> int:
    """Number of a head's deconvolutions, each of stride 2."""
    if 'deconv_out_channels' in head:
        return len(head['deconv_out_channels'] or ())
    return DECONVS.get(type_name(head), 0)


def heatmap_size(input_size: Sequence[int], head: dict, codec: dict, cfg: dict) -> Tuple[int, int]:
    """Size (W, H) of a head's heatmaps for another input.

    Args:
        input_size (tuple): The other size (w, h) in pixels.
        head (dict): The head that stays, with heatmaps now.
        codec (dict): Its codec now, with ``input_size`` and ``heatmap_size``.
        cfg (dict): The whole config.

    Raises:
        ValueError: It does not follow from the config, or the model takes no pictures of this
            size.
    """
    return _scaled(
        'codec.heatmap_size', codec['heatmap_size'], codec, input_size, cfg, 2 ** num_deconvs(head)
    )


def featuremap_size(
    input_size: Sequence[int], head: dict, codec: dict, cfg: dict
) -> Tuple[int, int]:
    """Size (w, h) of the feature map that enters the head, for another input.

    Args:
        input_size (tuple): The other size (w, h) in pixels.
        head (dict): The head that the config has now.
        codec (dict): Its codec now.
        cfg (dict): The whole config.

    Raises:
        ValueError: It does not follow from the config, or the model takes no pictures of this
            size.
    """
    size = head.get('in_featuremap_size')
    if size is None and 'heatmap_size' in codec and type_name(head) in DECONVS:
        scale = 2 ** num_deconvs(head)
        size = [cells // scale for cells in codec['heatmap_size']]
    if size is None and is_pooling(cfg['model'].get('neck')):
        backbone = cfg['model']['backbone']
        if _has_stride_32(backbone) and not any(pixels % 32 for pixels in codec['input_size']):
            size = [pixels // 32 for pixels in codec['input_size']]
    if size is None:
        raise invalid(
            'head.in_featuremap_size',
            None,
            f'given (None for keypoint tokens): it does not follow from {type_name(head)} on '
            f'{type_name(cfg["model"].get("backbone") or {})}',
        )
    return _scaled('head.in_featuremap_size', size, codec, input_size, cfg)


def is_pooling(neck: Optional[dict]) -> bool:
    return isinstance(neck, dict) and type_name(neck) == 'GlobalAveragePooling'


def _scaled(
    name: str,
    size: Sequence[int],
    codec: dict,
    input_size: Sequence[int],
    cfg: dict,
    upsampling: int = 1,
) -> Tuple[int, int]:
    """Size of a map for another input. ``upsampling``: how many cells it has for one of the
    backbone's. Backbones round sizes up, so the new input has to be divisible."""
    base_input = codec['input_size']
    if tuple(input_size) == tuple(base_input):
        return tuple(size)
    if any(pixels % cells for pixels, cells in zip(base_input, size)):
        raise invalid(
            name,
            None,
            f'given: {tuple(size)} cells for {tuple(base_input)} pixels, as in the base, are no '
            'whole stride',
        )
    strides = [pixels // cells for pixels, cells in zip(base_input, size)]
    backbone = type_name(cfg['model'].get('backbone') or {})
    coarsest = COARSEST_STRIDE.get(backbone, 1)
    steps = [math.lcm(stride * upsampling, coarsest) for stride in strides]
    if any(pixels % step for pixels, step in zip(input_size, steps)):
        multiple = steps[0] if len(set(steps)) == 1 else tuple(steps)
        raise invalid(
            'codec.input_size',
            tuple(input_size),
            f'a multiple of {multiple}, the stride of the coarsest maps of {backbone}',
        )
    return tuple(pixels // stride for pixels, stride in zip(input_size, strides))


def _has_stride_32(backbone: dict) -> bool:
    if type_name(backbone) not in STRIDE_32:
        return False
    defaults = inspect.signature(MODELS.get(type_name(backbone))).parameters
    return all(
        name in defaults and tuple(backbone[name]) == tuple(defaults[name].default)
        for name in STRIDE_ARGUMENTS
        if name in backbone
    )
