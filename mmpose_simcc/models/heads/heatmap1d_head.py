# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""1-D heatmaps along x and y, the representation SimCC compares with."""

from typing import Sequence, Tuple

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.models.heads import HeatmapHead
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.utils.typing import ConfigType, OptConfigType
from torch import Tensor, nn

from ...utils.checks import check_size, invalid
from .base_simcc_head import BaseSimCCHead, Vectors


class RowCollapse(nn.Sequential):
    """Decoupling convolutions: a feature map becomes one row.

    Each halves the height, with a kernel as wide as one column: the mirror
    image of a deconvolution along one axis.

    Args:
        channels (int): Channels C.
        height (int): Rows of the feature map.
    """

    def __init__(self, channels: int, height: int) -> None:
        # floor(log2(height)) of them leave one row
        super().__init__(
            *[
                ConvModule(
                    channels,
                    channels,
                    kernel_size=(4, 1),
                    stride=(2, 1),
                    padding=(1, 0),
                    norm_cfg=dict(type='BN'),
                )
                for _ in range(height.bit_length() - 1)
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) to (B, C, W)."""
        return super().forward(x).squeeze(-2)


class CoAttention(BaseModule):
    r"""Co-attention between the features of the two axes.

    One bilinear affinity, read in both directions, tells which positions of
    the other axis belong to a position of this one:

    .. math::
        A = \frac{X^T W Y}{\sqrt C},\quad
        X' = f_x([X, Y\,\mathrm{softmax}_y(A)^T]),\quad
        Y' = f_y([Y, X\,\mathrm{softmax}_x(A)])

    where f is a 1x1 convolution, batch normalisation and ReLU.

    Args:
        channels (int): Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.affinity = nn.Conv1d(channels, channels, 1, bias=False)
        self.fuse_x, self.fuse_y = (
            ConvModule(
                2 * channels,
                channels,
                kernel_size=1,
                conv_cfg=dict(type='Conv1d'),
                norm_cfg=dict(type='BN1d'),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
        """Shapes (B, C, Lx) and (B, C, Ly), unchanged."""
        affinity = self.affinity(x).transpose(1, 2) @ y / x.shape[1] ** 0.5
        y_at_x = y @ affinity.softmax(dim=2).transpose(1, 2)
        x_at_y = x @ affinity.softmax(dim=1)
        return (
            self.fuse_x(torch.cat([x, y_at_x], dim=1)),
            self.fuse_y(torch.cat([y, x_at_y], dim=1)),
        )


def _upsampling(
    in_channels: int, deconv_out_channels: Sequence[int], out_channels: int
) -> nn.Sequential:
    """1-D deconvolutions that each double the length, and a convolution to
    the heatmaps."""
    layers = []
    for channels in deconv_out_channels:
        layers += [
            nn.ConvTranspose1d(in_channels, channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm1d(channels),
            nn.ReLU(inplace=True),
        ]
        in_channels = channels
    return nn.Sequential(*layers, nn.Conv1d(in_channels, out_channels, 1))


@MODELS.register_module()
class Heatmap1DHead(BaseSimCCHead):
    """Attentive 1-D heatmap regression (`Yin et al.`_, ACM MM 2020), as SimCC
    compares with it (Table 3).

    Two vectors a keypoint, for x and for y, are regressed to Gaussians of
    height 1. What the sources say of the layout: learned decoupling layers,
    several convolutions and a co-attention module, turn 2-D features into 1-D
    ones; deconvolutions then raise the resolution of the 1-D heatmaps (SimCC,
    Sections 1 and 2, Fig. 1); with SimpleBaseline-R50 at 256x256 there are 5
    deconvolutions, 39.0M parameters and 14.4 GFLOPs (Table 3).

    They leave open, and chosen here:

    - Which deconvolutions: SimpleBaseline's three in 2-D, which make the row
      above in Table 3 (34.0M, 12.0 GFLOPs), and two in 1-D along each axis.
      From stride 4 they lead to one bin a pixel.
    - The decoupling convolutions (:class:`RowCollapse`): as many as it takes,
      each halving the axis that vanishes, with 256 channels and the
      deconvolutions' kernel of 4 along it. One convolution over the whole
      axis would alone have 8.4M parameters.
    - The co-attention (:class:`CoAttention`): one affinity matrix used in both
      directions, before the 1-D deconvolutions.
    - Mean squared error on Gaussians of height 1, as for 2-D heatmaps, and
      the flip test's mean of the heatmaps.

    This gives 38.5M parameters and 14.1 GFLOPs in the paper's count.

    Args:
        in_channels (int): Channels of the last feature map.
        out_channels (int): Keypoints K.
        in_featuremap_size (tuple): Size (w, h) of that map.
        deconv_out_channels (sequence[int]): Channels of the 2-D
            deconvolutions. Defaults to (256, 256, 256).
        deconv_kernel_sizes (sequence[int]): Their kernel sizes. Defaults to
            (4, 4, 4).
        deconv1d_out_channels (sequence[int]): Channels of the 1-D
            deconvolutions along each axis. Defaults to (256, 256).
        loss (dict): Config of the loss on heatmaps (B, K, L), one axis at a
            time. Defaults to :class:`mmpose.models.KeypointMSELoss` with
            target weights.
        decoder (dict): A :class:`SimCCCodec` whose bins are the heatmaps'
            (one a pixel by default), with ``label_smoothing='gaussian'``,
            ``normalize=True``, ``refine='none'`` and, since the outputs are heatmaps and not
            logits, ``score='maximum'``: the score is the lower of two peaks.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: The decoder has other settings, or another size than the heatmaps.

    .. _Yin et al.: https://arxiv.org/abs/2004.02108
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        in_featuremap_size: Tuple[int, int],
        decoder: ConfigType,
        deconv_out_channels: Sequence[int] = (256, 256, 256),
        deconv_kernel_sizes: Sequence[int] = (4, 4, 4),
        deconv1d_out_channels: Sequence[int] = (256, 256),
        loss: ConfigType = dict(type='KeypointMSELoss', use_target_weight=True),
        init_cfg: OptConfigType = None,
    ) -> None:
        super().__init__(init_cfg or self.default_init_cfg)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.loss_module = MODELS.build(loss)
        self.deconv_head = HeatmapHead(
            in_channels,
            out_channels,
            deconv_out_channels=deconv_out_channels,
            deconv_kernel_sizes=deconv_kernel_sizes,
            final_layer=None,
        )
        channels = deconv_out_channels[-1]
        w, h = (
            size * 2 ** len(deconv_out_channels)
            for size in check_size('in_featuremap_size', in_featuremap_size)
        )
        self.decouple_x = RowCollapse(channels, h)
        self.decouple_y = RowCollapse(channels, w)
        self.co_attention = CoAttention(channels)
        self.upsample_x, self.upsample_y = (
            _upsampling(channels, deconv1d_out_channels, out_channels) for _ in range(2)
        )
        scale = 2 ** len(deconv1d_out_channels)
        self.decoder = _build_decoder(decoder, (w * scale, h * scale))

    @property
    def default_init_cfg(self):
        return [
            dict(
                type='Normal',
                layer=['Conv1d', 'Conv2d', 'ConvTranspose1d', 'ConvTranspose2d'],
                std=0.001,
            ),
            dict(type='Constant', layer=['BatchNorm1d', 'BatchNorm2d'], val=1),
        ]

    def forward(self, feats: Tuple[Tensor]) -> Tuple[Tensor, Tensor]:
        """Compute the heatmaps.

        Args:
            feats (tuple[Tensor]): Feature maps, of which the last is used,
                shape (B, C, H, W).

        Returns:
            tuple[Tensor, Tensor]: Heatmaps along x and y, shapes (B, K, w)
            and (B, K, h) of the decoder's bins.
        """
        maps = self.deconv_head(feats)
        x, y = self.co_attention(self.decouple_x(maps), self.decouple_y(maps.transpose(2, 3)))
        return self.upsample_x(x), self.upsample_y(y)

    def _loss(self, pred: Vectors, target: Vectors, weights: Tensor) -> Tensor:
        # labels are densities: a division by their peak gives a height of 1
        return sum(
            self.loss_module(p, t / peak, weights)
            for p, t, peak in zip(pred, target, self.decoder.perfect_peak)
        )

    def _responses(self, pred: Vectors) -> Vectors:
        return tuple(heights.clamp(0, 1) for heights in pred)


def _build_decoder(decoder: ConfigType, num_bins: Tuple[int, int]) -> BaseKeypointCodec:
    """Build the codec of heatmaps with ``num_bins`` bins along x and y."""
    codec = KEYPOINT_CODECS.build(decoder)
    required = dict(
        label_smoothing='gaussian',
        normalize=True,  # `_loss` divides a density by its peak
        refine='none',
        score='maximum',
        num_bins=num_bins,
    )
    for name, value in required.items():
        if getattr(codec, name, None) != value:
            raise invalid('decoder', decoder, f'a SimCCCodec with {name} = {value!r}')
    return codec
