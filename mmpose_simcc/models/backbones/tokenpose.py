# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""TokenPose: keypoints as learned tokens of a transformer."""

import math
from collections import OrderedDict
from functools import partial
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList, Sequential
from mmpose.models.backbones.base_backbone import BaseBackbone
from mmpose.models.backbones.hrnet import HRNet
from mmpose.models.backbones.resnet import Bottleneck, ResLayer
from mmpose.registry import MODELS
from mmpose.utils.typing import OptMultiConfig
from torch import Tensor, nn

_CNN_INIT = [
    dict(type='Normal', layer='Conv2d', std=0.001),
    dict(type='Constant', layer='BatchNorm2d', val=1),
]


def sine_position_embedding(grid_size: Tuple[int, int], embed_dims: int) -> Tensor:
    """Two-dimensional sine position embedding of a grid of tokens.

    The first half of the channels holds the row, the second half the column,
    each counted from 1 and scaled so that the last one is 2 pi, as in DETR.

    Args:
        grid_size (tuple): Columns and rows (w, h) of the grid.
        embed_dims (int): Channels D, a multiple of 4.

    Returns:
        Tensor: Shape (1, h * w, D), row by row.
    """
    w, h = grid_size
    channels = torch.arange(embed_dims // 4, dtype=torch.float32)
    wavelengths = 10000 ** (4 * channels / embed_dims)

    def embed(length: int) -> Tensor:
        steps = torch.arange(1, length + 1, dtype=torch.float32)
        phase = steps / (length + 1e-6) * 2 * math.pi
        phase = phase[:, None] / wavelengths
        return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)

    rows = embed(h)[:, None].expand(h, w, embed_dims // 2)
    columns = embed(w)[None].expand(h, w, embed_dims // 2)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)[None]


class Attention(BaseModule):
    """Multi-head self-attention without a bias in the projections to query,
    key and value.

    Args:
        embed_dims (int): Channels D of the tokens.
        num_heads (int): Heads, a divisor of D.
        scale_by_head (bool): Whether products are scaled by the usual
            ``head_dims**-0.5``, or by ``embed_dims**-0.5`` as in the
            published TokenPose-S.
    """

    def __init__(self, embed_dims: int, num_heads: int, scale_by_head: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        # F.scaled_dot_product_attention takes no scale before torch 2.1, so
        # the query carries what differs from its head_dims**-0.5.
        self.query_scale = 1.0 if scale_by_head else num_heads**-0.5
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=False)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, N, D) to (B, N, D)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q * self.query_scale, k, v)
        return self.proj(x.transpose(1, 2).flatten(2))


class TransformerLayer(BaseModule):
    """Pre-norm transformer encoder layer.

    Args:
        embed_dims (int): Channels D of the tokens.
        num_heads (int): Heads of the attention.
        mlp_ratio (int): Hidden channels of the MLP as a multiple of D.
        scale_by_head (bool): See :class:`Attention`.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, mlp_ratio: int, scale_by_head: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = Attention(embed_dims, num_heads, scale_by_head)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, mlp_ratio * embed_dims),
            nn.GELU(),
            nn.Linear(mlp_ratio * embed_dims, embed_dims),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, N, D) to (B, N, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class HRNetStem(HRNet):
    """HRNet up to stage 3, of which only the branch of highest resolution is
    put out: stride 4, ``width`` channels.

    Parameter names are HRNet's, so that its pretrained weights load.

    Args:
        width (int): Channels of that branch, 32 or 48.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(self, width: int, init_cfg: OptMultiConfig = None) -> None:
        widths = (width, 2 * width, 4 * width)
        extra = dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block='BOTTLENECK',
                num_blocks=(4,),
                num_channels=(64,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block='BASIC',
                num_blocks=(4, 4),
                num_channels=widths[:2],
            ),
            stage3=dict(
                num_modules=4,
                num_branches=3,
                block='BASIC',
                num_blocks=(4, 4, 4),
                num_channels=widths,
                multiscale_output=False,
            ),
            # passes the first branch on, without parameters
            stage4=dict(
                num_modules=0, num_branches=1, block='BASIC', num_blocks=(), num_channels=widths[:1]
            ),
        )
        super().__init__(extra, init_cfg=init_cfg or _CNN_INIT)

    def _make_stage(self, layer_config, in_channels, multiscale_output=True):
        # HRNet reads this setting for stage 4 alone
        return super()._make_stage(
            layer_config, in_channels, layer_config.get('multiscale_output', True)
        )


def _conv_stem(init_cfg: OptMultiConfig = None) -> Sequential:
    """The first layers of HRNet: two convolutions of stride 2 and four
    bottleneck blocks; stride 4, 256 channels."""
    layers = []
    for i, in_channels in enumerate((3, 64), start=1):
        conv = nn.Conv2d(in_channels, 64, 3, stride=2, padding=1, bias=False)
        layers += [
            (f'conv{i}', conv),
            (f'bn{i}', nn.BatchNorm2d(64)),
            (f'relu{i}', nn.ReLU(inplace=True)),
        ]
    layers.append(('layer1', ResLayer(Bottleneck, 4, 64, 256)))
    return Sequential(OrderedDict(layers), init_cfg=init_cfg or _CNN_INIT)


@MODELS.register_module()
class TokenPose(BaseBackbone):
    """Backbone of `TokenPose`_ (Li et al., ICCV 2021).

    Patches of the image, or of a CNN's feature map, become visual tokens. A
    transformer relates them to one learned token a keypoint, and the keypoint
    tokens are the output, for :class:`TokenHeatmapHead` or
    :class:`SimCCClassifierHead`.

    =========  ====================  =============  ==========  ============
    arch       tokens are made from  layers         heads       output D
    =========  ====================  =============  ==========  ============
    'T'        the image             12             16          192
    'S'        HRNet's first layers  12             8           192
    'S-v2'     as S, patches of 2x2  12             8           192
    'B'        HRNet-W32, stage 3    12             8           192
    'L/D6'     HRNet-W48, stage 3    3 times 2      8           3 x 192
    'L/D24'    HRNet-W48, stage 3    3 times 8      12          3 x 192
    =========  ====================  =============  ==========  ============

    Args:
        arch (str): A name of the table. S is called S-v1 in the paper.
        num_keypoints (int): Keypoints K. Defaults to 17.
        input_size (tuple): Size (w, h) of the input image in pixels.
            Defaults to (192, 256).
        patch_size (tuple, optional): Width and height of a patch, in cells of
            the CNN's map of stride 4 ('T': in pixels). Defaults to the
            published one for 256x192 (h x w): (3, 4), 'S-v2' (2, 2), 'T'
            (12, 16). Elsewhere, S has (1, 1) at 64x64 and (2, 2) at 128x128,
            L (4, 6) at 384x288 and (4, 4) at 256x256.
        pos_embed (str): Position embedding: 'none'; 'sine', added to the
            visual tokens at first; 'sine-full' (the default), added to them
            again before every layer of a transformer but its first;
            'learnable', added to all tokens at first.
        stem_init_cfg (dict, optional): Initialization config of the CNN, for
            example ``dict(type='Pretrained', checkpoint=...)`` with HRNet's
            ImageNet weights for B and L.
        init_cfg (dict, optional): Initialization config of the whole.

    Raises:
        ValueError: ``arch`` or ``pos_embed`` is none of these, or the patch
            does not divide the map. In ``forward``: the image has another
            size than ``input_size``.

    .. _TokenPose: https://arxiv.org/abs/2104.03516
    """

    arch_zoo = {
        'T': dict(stem=None, depths=(12,), num_heads=16, patch_size=(12, 16)),
        'S': dict(stem='conv', depths=(12,), num_heads=8, patch_size=(3, 4)),
        'S-v2': dict(stem='conv', depths=(12,), num_heads=8, patch_size=(2, 2)),
        'B': dict(stem='w32', depths=(12,), num_heads=8, patch_size=(3, 4)),
        'L/D6': dict(stem='w48', depths=(2, 2, 2), num_heads=8, patch_size=(3, 4)),
        'L/D24': dict(stem='w48', depths=(8, 8, 8), num_heads=12, patch_size=(3, 4)),
    }
    pos_embeds = ('none', 'sine', 'sine-full', 'learnable')
    embed_dims = 192
    mlp_ratio = 3

    def __init__(
        self,
        arch: str,
        num_keypoints: int = 17,
        input_size: Tuple[int, int] = (192, 256),
        patch_size: Optional[Tuple[int, int]] = None,
        pos_embed: str = 'sine-full',
        stem_init_cfg: OptMultiConfig = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg or self.default_init_cfg)
        if arch not in self.arch_zoo:
            raise ValueError(f'arch is {arch!r}, but must be one of {list(self.arch_zoo)}')
        if pos_embed not in self.pos_embeds:
            raise ValueError(f'pos_embed is {pos_embed!r}, but must be one of {self.pos_embeds}')
        setting = self.arch_zoo[arch]
        self.num_keypoints = num_keypoints
        self.input_size = tuple(input_size)
        self.pos_embed_type = pos_embed

        patch_size = tuple(patch_size or setting['patch_size'])
        stem = setting['stem']
        if stem is None:
            self.stem, channels, stride = nn.Identity(), 3, 1
        elif stem == 'conv':
            self.stem, channels, stride = _conv_stem(stem_init_cfg), 256, 4
        else:
            channels, stride = int(stem[1:]), 4
            self.stem = HRNetStem(channels, stem_init_cfg)
        grid_size = self._grid_size(stride, patch_size, divisor=16 if stem in ('w32', 'w48') else 1)

        self.patch_embed = nn.Conv2d(channels, self.embed_dims, patch_size[::-1], patch_size[::-1])
        self.keypoint_tokens = nn.Parameter(torch.empty(1, num_keypoints, self.embed_dims))
        nn.init.trunc_normal_(self.keypoint_tokens, std=0.02)
        if pos_embed == 'learnable':
            num_tokens = num_keypoints + math.prod(grid_size)
            self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, self.embed_dims))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        elif pos_embed != 'none':
            self.register_buffer(
                'pos_embed', sine_position_embedding(grid_size, self.embed_dims), persistent=False
            )  # it follows from the sizes

        # the published S differs in the scale of its attention
        layer = partial(
            TransformerLayer,
            self.embed_dims,
            setting['num_heads'],
            self.mlp_ratio,
            scale_by_head=stem != 'conv',
        )
        self.transformers = ModuleList(
            [ModuleList([layer() for _ in range(depth)]) for depth in setting['depths']]
        )

    @property
    def default_init_cfg(self):
        truncated_normal = dict(type='TruncNormal', std=0.02)
        return [
            dict(
                **truncated_normal,
                layer='Linear',
                override=dict(**truncated_normal, name='patch_embed'),
            ),
            dict(type='Constant', layer='LayerNorm', val=1),
        ]

    def _grid_size(self, stride: int, patch_size: Tuple[int, int], divisor: int) -> Tuple[int, int]:
        """Columns and rows of visual tokens."""
        if any(n % divisor for n in self.input_size):
            raise ValueError(
                f'input_size is {self.input_size}, but both '
                f'must be multiples of {divisor} for HRNet'
            )
        if any(n % (stride * p) for n, p in zip(self.input_size, patch_size)):
            raise ValueError(
                f'patch_size {patch_size} must divide the map of stride '
                f'{stride} that input_size {self.input_size} gives, '
                f'{tuple(n / stride for n in self.input_size)}'
            )
        return tuple(n // (stride * p) for n, p in zip(self.input_size, patch_size))

    def forward(self, x: Tensor) -> Tuple[Tensor]:
        """Compute the keypoint tokens.

        Args:
            x (Tensor): Images, shape (B, 3, h, w) of ``input_size``.

        Returns:
            tuple[Tensor]: The keypoint tokens alone, shape (B, K, D). D is
            192, or 3 * 192 in L, which joins the tokens after each of its
            three transformers.
        """
        if x.shape[-2:] != self.input_size[::-1]:
            raise ValueError(
                f'the images are {tuple(x.shape[:-3:-1])} (w, h), but this '
                f'TokenPose was built for input_size {self.input_size}'
            )
        K = self.num_keypoints
        x = self.stem(x)
        if isinstance(x, tuple):  # HRNet's branches
            x = x[0]
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        if self.pos_embed_type in ('sine', 'sine-full'):
            x = x + self.pos_embed
        tokens = self.keypoint_tokens.expand(x.shape[0], -1, -1)
        x = torch.cat([tokens, x], dim=1)
        if self.pos_embed_type == 'learnable':
            x = x + self.pos_embed

        outs = []
        for layers in self.transformers:
            for i, layer in enumerate(layers):
                if i > 0 and self.pos_embed_type == 'sine-full':
                    x = torch.cat([x[:, :K], x[:, K:] + self.pos_embed], dim=1)
                x = layer(x)
            outs.append(x[:, :K])
        return (torch.cat(outs, dim=-1),)
