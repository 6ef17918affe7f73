# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""SimpleBaseline and HRNet, with heatmaps or SimCC. The repositories of
SimpleBaseline, HRNet, DARK, DAEC and SimCC use the same names of entries.
DARK's Hourglass is recognised, but MMPose has no model that computes the
same."""

import math
import re
from functools import partial
from typing import List, Optional, Tuple

from mmpose.models import ResNet
from mmpose.models.backbones.resnet import BasicBlock
from torch import Tensor

from .model import INPUT_SIZES, OfficialModel, Shapes, count, shape_of

SPLIT_RATIOS = (1, 1.5, 2, 3, 4)  # bins a pixel


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


def identify_resnet(shapes: Shapes, num_keypoints: Optional[int] = None) -> OfficialModel:
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
    scheme, head, notes = _head(shapes, 512 if is_basic else 2048, 32, num_keypoints)
    return OfficialModel(
        name=f'ResNet-{depth}, {scheme}',
        model=dict(backbone=dict(type='ResNet', depth=depth), head=head),
        bgr_to_rgb=False,
        convert=partial(_convert, head=head),
        # heatmap models may be DARK's, which have the same names
        use_udp=False if scheme == 'SimCC' else None,
        notes=notes
        + [
            'SimpleBaseline, and the ResNet configs (COLOR_RGB: false) of '
            'HRNet, DARK and SimCC, feed BGR images with mean and std in RGB '
            'order; the weights do not tell whether these were trained '
            'otherwise.',
            'Weights of "caffe" configs, with the stride in the first '
            'convolution of a block, have the same names and shapes: for '
            "those, add style='caffe' to the backbone.",
        ],
    )


def identify_hrnet(shapes: Shapes, num_keypoints: Optional[int] = None) -> OfficialModel:
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
    scheme, head, notes = _head(shapes, width, 4, num_keypoints)
    return OfficialModel(
        name=f'HRNet-W{width}, {scheme}',
        model=dict(backbone=dict(type='HRNet', extra=extra), head=head),
        bgr_to_rgb=True,
        convert=partial(_convert, head=head),
        # heatmap models may be DARK's, which have the same names
        use_udp=False if scheme == 'SimCC' else None,
        notes=notes
        + [
            'The HRNet configs (COLOR_RGB: true) of HRNet, DARK and SimCC '
            'feed RGB images; the weights do not tell whether these were '
            'trained otherwise.'
        ],
    )


def _head(
    shapes: Shapes, in_channels: int, stride: int, num_keypoints: Optional[int]
) -> Tuple[str, dict, List[str]]:
    """The scheme, the head's config, and notes. ``stride`` is the feature map's. The number of
    keypoints is used only where several fit the shapes."""
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
        return 'heatmap', dict(type='HeatmapHead', **head), []

    num_bins, features = zip(*(shape_of(shapes, f'mlp_head_{axis}.weight', 2) for axis in 'xy'))
    readings = _simcc_readings(num_bins, features[0], channels, stride, 2 ** len(deconvs))
    published_channels = (28, 32) if stride == 32 and not deconvs else (1,)
    chosen = _choose(readings, published_channels, num_keypoints)
    if chosen is None:
        wanted = f'{num_keypoints} keypoints' if num_keypoints else 'no input size'
        raise ValueError(
            f'`mlp_head_x.weight` {shapes["mlp_head_x.weight"]} and '
            f'`final_layer.weight` {shapes["final_layer.weight"]} fit {wanted}; '
            f'they fit {_list_readings(readings) or "nothing else"}'
        )
    head.update(chosen, in_featuremap_size=tuple(n // stride for n in chosen['input_size']))
    others = [each for each in _usual(readings) if each != chosen]
    notes = [f'The shapes also fit {_list_readings(others)}.'] if others else []
    return 'SimCC', dict(type='SimCCClassifierHead', **head), notes


def _simcc_readings(
    num_bins: Tuple[int, int], features: int, channels: int, stride: int, upsampling: int
) -> List[dict]:
    """All heads that have these shapes. Only the product of keypoints and channels a keypoint can
    be read off, so more keypoints with fewer channels, on larger pictures with a smaller split
    ratio, may have the same shapes.

    Args:
        num_bins (tuple): Bins along x and y.
        features (int): Inputs of a linear layer: channels a keypoint times cells.
        channels (int): Channels of all keypoints.
        stride (int): Pixels for a cell of the backbone's map.
        upsampling (int): Cells of the head's map for one of the backbone's.
    """
    readings = []
    for num_keypoints in range(1, channels + 1):
        per_keypoint, rest = divmod(channels, num_keypoints)
        size = None if rest else _map_size(features / per_keypoint, num_bins)
        if size is not None and not any(n % upsampling for n in size):
            input_size = tuple(n * stride // upsampling for n in size)
            readings.append(
                dict(
                    out_channels=num_keypoints,
                    input_size=input_size,
                    simcc_split_ratio=num_bins[0] / input_size[0],
                    channels_per_keypoint=per_keypoint,
                )
            )
    return readings


def _choose(
    readings: List[dict], published_channels: Tuple[int, ...], num_keypoints: Optional[int]
) -> Optional[dict]:
    """The reading with this number of keypoints; without a number, the only one that resembles
    published models. None if there is none.

    Raises:
        ValueError: Several are equally likely.
    """
    if num_keypoints is not None:
        return next((each for each in readings if each['out_channels'] == num_keypoints), None)
    usual = _usual(readings) or readings
    for channels in (published_channels, (1,)):
        likely = [each for each in usual if each['channels_per_keypoint'] in channels]
        if likely:
            usual = likely
            break
    if len(usual) > 1:
        raise ValueError(
            f'`num_keypoints` must be given: the shapes of the head fit {_list_readings(usual)}'
        )
    return usual[0] if usual else None


def _usual(readings: List[dict]) -> List[dict]:
    """Those with a published input size and split ratio."""
    return [
        each
        for each in readings
        if each['input_size'] in INPUT_SIZES and each['simcc_split_ratio'] in SPLIT_RATIOS
    ]


def _list_readings(readings: List[dict]) -> str:
    return ', or '.join(
        '{out_channels} keypoints on {input_size} pixels with split ratio '
        '{simcc_split_ratio:g}'.format(**each)
        for each in readings
    )


def _map_size(cells: float, num_bins: Tuple[int, int]) -> Optional[Tuple[int, int]]:
    """Size (w, h) of the map with this number of cells and the bins' aspect ratio."""
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
