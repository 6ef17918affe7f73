# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""SimpleBaseline and HRNet, with heatmaps or SimCC: the repositories of
SimpleBaseline, HRNet, DARK, DAEC and SimCC name their entries alike. DARK's
Hourglass is recognised, but nothing in MMPose computes the same."""

import math
import re
from functools import partial
from typing import Optional, Tuple

from mmpose.models import ResNet
from mmpose.models.backbones.resnet import BasicBlock
from torch import Tensor

from .model import OfficialModel, Shapes, count, shape_of

# A head without deconvolution stores out_channels * channels_per_keypoint
# together. Keypoints of COCO, MPII and CrowdPose, the most usual first.
_NUM_KEYPOINTS = (17, 16, 14)


def is_hrnet(shapes: Shapes) -> bool:
    return any(name.startswith('transition1.') for name in shapes)


def is_resnet(shapes: Shapes) -> bool:
    return any(name.startswith('layer4.') for name in shapes)


def is_hourglass(shapes: Shapes) -> bool:
    return any(name.startswith('hg.0.hg.') for name in shapes)


def refuse_hourglass(shapes: Shapes) -> None:
    """Say why DARK's stacked Hourglass has no counterpart."""
    raise ValueError(
        f"the weights are of DARK's Hourglass with {count(shapes, 'hg.')} "
        'stacks: pre-activation bottleneck blocks with biases, max pooling, '
        "and scores fed back between stacks. MMPose's HourglassNet has "
        'post-activation basic blocks without biases, strided convolutions '
        'and features fed back, so that no entry has a counterpart and they '
        'cannot be converted'
    )


def identify_resnet(shapes: Shapes) -> OfficialModel:
    """ResNet-18 to 152 with or without deconvolutions."""
    blocks = tuple(count(shapes, f'layer{i}.') for i in range(1, 5))
    is_basic = 'layer1.0.conv3.weight' not in shapes
    depth = next(
        (
            depth
            for depth, (block, num_blocks) in ResNet.arch_settings.items()
            if num_blocks == blocks and (block is BasicBlock) == is_basic
        ),
        None,
    )
    if depth is None:
        raise ValueError(f'a ResNet with {blocks} blocks is not published')
    scheme, head = _head(shapes, 512 if is_basic else 2048, stride=32)
    return OfficialModel(
        name=f'ResNet-{depth}, {scheme}',
        model=dict(backbone=dict(type='ResNet', depth=depth), head=head),
        bgr_to_rgb=False,
        convert=partial(_convert, head=head),
        notes=[
            'SimpleBaseline, and the ResNet configs (COLOR_RGB: false) of '
            'HRNet, DARK and SimCC, feed BGR images with mean and std in RGB '
            'order; the weights do not tell whether these were trained '
            'otherwise.',
            'Weights of "caffe" configs, with the stride in the first '
            'convolution of a block, have the same names and shapes: for '
            "those, add style='caffe' to the backbone.",
        ],
    )


def identify_hrnet(shapes: Shapes) -> OfficialModel:
    """HRNet of any width."""
    width = shape_of(shapes, 'transition1.0.0.weight', 4)[0]
    widths = tuple(width * 2**i for i in range(4))
    extra = dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4,), num_channels=(64,)
        )
    )
    for stage, num_modules in ((2, 1), (3, 4), (4, 3)):
        extra[f'stage{stage}'] = dict(
            num_modules=num_modules,
            num_branches=stage,
            block='BASIC',
            num_blocks=(4,) * stage,
            num_channels=widths[:stage],
        )
    scheme, head = _head(shapes, width, stride=4)
    return OfficialModel(
        name=f'HRNet-W{width}, {scheme}',
        model=dict(backbone=dict(type='HRNet', extra=extra), head=head),
        bgr_to_rgb=True,
        convert=partial(_convert, head=head),
        notes=[
            'The HRNet configs (COLOR_RGB: true) of HRNet, DARK and SimCC '
            'feed RGB images; the weights do not tell whether these were '
            'trained otherwise.'
        ],
    )


def _head(shapes: Shapes, in_channels: int, stride: int) -> Tuple[str, dict]:
    """The scheme and the head's config; ``stride`` is the feature map's."""
    deconvs = [
        shapes[name]
        for name in sorted(
            filter(re.compile(r'deconv_layers\.\d+\.weight').fullmatch, shapes),
            key=lambda name: int(name.split('.')[1]),
        )
        if len(shapes[name]) == 4
    ]
    channels, _, kernel_size, _ = shape_of(shapes, 'final_layer.weight', 4)
    head = dict(
        in_channels=in_channels,
        out_channels=channels,
        deconv_out_channels=tuple(shape[1] for shape in deconvs) or None,
        deconv_kernel_sizes=tuple(shape[2] for shape in deconvs) or None,
        final_layer=dict(kernel_size=kernel_size, padding=kernel_size // 2),
    )
    if 'mlp_head_x.weight' not in shapes:
        return 'heatmap', dict(type='HeatmapHead', **head)

    upsampling = 2 ** len(deconvs)
    num_bins, features = zip(*(shape_of(shapes, f'mlp_head_{axis}.weight', 2) for axis in 'xy'))
    for num_keypoints in (*_NUM_KEYPOINTS, channels):
        per_keypoint, rest = divmod(channels, num_keypoints)
        size = None
        if not rest:
            size = _map_size(features[0] / per_keypoint, num_bins)
        if size is not None and not any(n % upsampling for n in size):
            break
    else:
        raise ValueError(
            f'`mlp_head_x.weight` {shapes["mlp_head_x.weight"]} and '
            f'`final_layer.weight` {shapes["final_layer.weight"]} fit no '
            'input size'
        )
    input_size = tuple(n * stride // upsampling for n in size)
    head.update(
        out_channels=num_keypoints,
        input_size=input_size,
        in_featuremap_size=tuple(n // upsampling for n in size),
        simcc_split_ratio=num_bins[0] / input_size[0],
        channels_per_keypoint=per_keypoint,
    )
    return 'SimCC', dict(type='SimCCClassifierHead', **head)


def _map_size(cells: float, num_bins: Tuple[int, int]) -> Optional[Tuple[int, int]]:
    """Size (w, h) of a map with so many cells and the bins' aspect ratio."""
    width = round(math.sqrt(cells * num_bins[0] / num_bins[1]))
    height = round(cells / width) if width else 0
    fits = width * height == cells and width * num_bins[1] == height * num_bins[0]
    return (width, height) if fits else None


def _convert(name: str, value: Tensor, head: dict) -> Tuple[str, Tensor]:
    """Rename an entry."""
    if name.startswith(('deconv_layers.', 'final_layer.')):
        inside = head['type'] == 'SimCCClassifierHead' and head['deconv_out_channels']
        return ('head.deconv_head.' if inside else 'head.') + name, value
    if name.startswith(('mlp_head_x.', 'mlp_head_y.')):
        return 'head.' + name, value
    return 'backbone.' + name, value
