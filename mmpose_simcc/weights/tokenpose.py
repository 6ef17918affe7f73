# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""TokenPose, with heatmaps as published, or with SimCC."""

import math
import re
from functools import partial
from typing import Dict, Sequence, Tuple

import torch
from torch import Tensor

from ..models.backbones.tokenpose import TokenPose, sine_position_embedding
from .model import INPUT_SIZES, OfficialModel, Shapes, count, shape_of, shapes_of

_PREFIX = r'(?:features|transformer)\.'
_RENAMED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (_PREFIX + r'keypoint_token$', 'backbone.keypoint_tokens'),
        (_PREFIX + r'pos_embedding$', 'backbone.pos_embed'),
        (_PREFIX + r'patch_to_embedding\.', 'backbone.patch_embed.'),
        (_PREFIX + r'mlp_head\.', 'head.mlp_head.'),
        (rf'(?:{_PREFIX})?mlp_head_([xy])\.', r'head.mlp_head_\1.'),
        (r'(?:features|pre_feature)\.', 'backbone.stem.'),
    )
]
_LAYER = re.compile(
    _PREFIX + r'transformer([123]?)\.layers\.(\d+)\.'
    r'([01]\..+)\.(weight|bias)'
)
_IN_LAYER = {
    '0.fn.norm': 'norm1',
    '0.fn.fn.to_qkv': 'attn.qkv',
    '0.fn.fn.to_out.0': 'attn.proj',
    '1.fn.norm': 'norm2',
    '1.fn.fn.net.0': 'mlp.0',
    '1.fn.fn.net.3': 'mlp.2',
}


def is_tokenpose(shapes: Shapes) -> bool:
    return any(name.startswith(('features.', 'transformer.')) for name in shapes)


def identify(state_dict: Dict[str, Tensor]) -> OfficialModel:
    """TokenPose T, S, B and L."""
    shapes = shapes_of(state_dict)
    prefix, stem, channels, stride = 'transformer.', None, 3, 1
    if any(name.startswith('features.') for name in shapes):
        prefix, stem, channels, stride = 'features.', 'conv', 256, 4
    elif any(name.startswith('pre_feature.') for name in shapes):
        channels = shape_of(shapes, 'pre_feature.transition1.0.0.weight', 4)[0]
        stem, stride = f'w{channels}', 4
    depths = tuple(
        filter(None, (count(shapes, f'{prefix}transformer{i}.layers.') for i in ('', 1, 2, 3)))
    )
    arch = next(
        (
            arch
            for arch, setting in TokenPose.arch_zoo.items()
            if (setting['stem'], setting['depths']) == (stem, depths)
        ),
        None,
    )
    if arch is None:
        raise ValueError(
            f'a TokenPose with transformers of {depths} layers '
            f'on {stem or "the image"} is not published'
        )

    _, num_keypoints, dims = shape_of(shapes, prefix + 'keypoint_token', 3)
    embedding = prefix + 'pos_embedding'
    patch_area = shape_of(shapes, prefix + 'patch_to_embedding.weight', 2)[1] // channels
    # without an embedding, the usual number of patches
    positions = shape_of(shapes, embedding, 3)[1] if embedding in shapes else 256
    scheme, input_size, head = _head(
        shapes, prefix, [n * patch_area * stride**2 for n in (positions, positions - num_keypoints)]
    )
    head.update(in_channels=dims * len(depths), out_channels=num_keypoints)
    patch_size, grid_size = _patching(input_size, stride, patch_area)
    if (
        arch == 'S'
        and patch_size == TokenPose.arch_zoo['S-v2']['patch_size']
        and input_size == (192, 256)
    ):
        arch = 'S-v2'

    backbone = dict(
        type='TokenPose',
        arch=arch,
        num_keypoints=num_keypoints,
        input_size=input_size,
        patch_size=patch_size,
    )
    official = OfficialModel(
        name=f'TokenPose-{arch}, {scheme}',
        model=dict(backbone=backbone, head=head),
        bgr_to_rgb=True,
        convert=partial(_convert, patch_size=patch_size),
        use_udp=True if scheme == 'heatmap' else None,  # SimCC was not published
        notes=[
            'The published TokenPose configs (COLOR_RGB: true) feed RGB '
            'images; the weights do not tell whether these were trained '
            'otherwise.'
        ],
    )
    if positions == math.prod(grid_size) + num_keypoints:
        backbone['pos_embed'] = 'learnable'
        return official
    official.notes.append(
        "Weights do not tell the position embeddings 'sine' and 'sine-full' "
        "apart; all published configs have 'sine-full'."
    )
    if embedding in shapes:
        official.discarded[embedding] = _why_discarded(
            state_dict[embedding], sine_position_embedding(grid_size, dims)
        )
    return official


def _head(shapes: Shapes, prefix: str, areas: Sequence[int]) -> Tuple[str, Tuple[int, int], dict]:
    """The scheme, the input size (w, h) and the head's config; ``areas`` are
    the numbers of pixels that the image may have."""
    for simcc in ('', prefix):
        if f'{simcc}mlp_head_x.weight' in shapes:
            num_bins = tuple(
                shape_of(shapes, f'{simcc}mlp_head_{axis}.weight', 2)[0] for axis in 'xy'
            )
            input_size = _simcc_input_size(num_bins, areas)
            return (
                'SimCC',
                input_size,
                dict(
                    type='SimCCClassifierHead',
                    input_size=input_size,
                    simcc_split_ratio=num_bins[0] / input_size[0],
                ),
            )
    last = max(count(shapes, f'{prefix}mlp_head.') - 1, 0)
    input_size = _heatmap_input_size(shape_of(shapes, f'{prefix}mlp_head.{last}.weight', 2)[0])
    return (
        'heatmap',
        input_size,
        dict(type='TokenHeatmapHead', heatmap_size=tuple(n // 4 for n in input_size)),
    )


def _why_discarded(embedding: Tensor, table: Tensor) -> str:
    if embedding.shape == table.shape and torch.allclose(
        embedding.float(), table, rtol=0, atol=1e-2
    ):
        return 'it is the sine table that the model computes'
    return (
        'the model computes a sine table, and it is another: outputs may differ from the original'
    )


def _simcc_input_size(num_bins: Sequence[int], areas: Sequence[int]) -> Tuple[int, int]:
    """Size (w, h) of the image with one of these areas in pixels and the
    bins' aspect ratio."""
    for area in areas:
        width = round(math.sqrt(area * num_bins[0] / num_bins[1]))
        height = round(area / width)
        if width * height == area and width * num_bins[1] == height * num_bins[0]:
            return width, height
    raise ValueError(f'{num_bins} bins and {areas[0]} pixels fit no input size')


def _heatmap_input_size(cells: int) -> Tuple[int, int]:
    """Size (w, h) of the image that has a heatmap with this number of cells."""
    for width, height in INPUT_SIZES:
        if width * height == 16 * cells:
            return width, height
    raise ValueError(
        f'heatmaps of {cells} cells are of none of the input sizes (w, h) {INPUT_SIZES}'
    )


def _patching(
    input_size: Tuple[int, int], stride: int, area: int
) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    """Size (w, h) of patches with this number of cells, and their grid (w, h).

    Several sizes may divide the map. All published models have the one with
    the squarest grid.
    """
    w, h = (n // stride for n in input_size)
    patches = [
        (pw, area // pw)
        for pw in range(1, area + 1)
        if area % pw == 0 and w % pw == 0 and h % (area // pw) == 0
    ]
    if not patches:
        raise ValueError(f'no patch of {area} cells divides a map of {w} x {h}')
    pw, ph = min(patches, key=lambda patch: abs(w // patch[0] - h // patch[1]))
    return (pw, ph), (w // pw, h // ph)


def _convert(name: str, value: Tensor, patch_size: Tuple[int, int]) -> Tuple[str, Tensor]:
    """Rename an entry; a linear layer on patches becomes a convolution."""
    match = _LAYER.fullmatch(name)
    if match:
        transformer, layer, module, kind = match.groups()
        transformer = int(transformer or 1) - 1
        module = _IN_LAYER.get(module, module)
        return (f'backbone.transformers.{transformer}.{layer}.{module}.{kind}', value)
    if name.endswith('.patch_to_embedding.weight'):
        pw, ph = patch_size  # a patch was read row by row, channels last
        value = value.unflatten(1, (ph, pw, -1)).permute(0, 3, 1, 2).contiguous()
    for pattern, replacement in _RENAMED:
        if pattern.match(name):
            return pattern.sub(replacement, name, count=1), value
    return name, value
