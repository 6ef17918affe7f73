# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import Optional, Sequence, Tuple

from mmcv.cnn import build_conv_layer
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.utils.typing import ConfigType, OptConfigType
from torch import Tensor, nn

from ...utils.checks import check_choice, check_int, check_size, invalid
from .base_simcc_head import BaseSimCCHead, Vectors

OptIntSeq = Optional[Sequence[int]]


@MODELS.register_module()
class SimCCClassifierHead(BaseSimCCHead):
    """Coordinate classification head (SimCC, Section 3, Fig. 2): keypoint
    representations, flattened, and one linear layer an axis that all
    keypoints share.

    The representations come from

    * a feature map: optional deconvolutions (stock ``HeatmapHead``), then a
      convolution to ``out_channels * channels_per_keypoint`` channels; or
    * keypoint tokens (B, K, D), where ``in_featuremap_size`` is None: the
      linear layers act on each token.

    Args:
        in_channels (int): Channels of the last feature map, or dimension D
            of the tokens.
        out_channels (int): Number of keypoints K.
        input_size (tuple, optional): Input image size (w, h) in pixels. The
            decoder's by default.
        in_featuremap_size (tuple, optional): Size (w, h) of the last feature
            map. None for keypoint tokens.
        simcc_split_ratio (float, optional): Bins a pixel. The decoder's by
            default.
        channels_per_keypoint (int): Channels that represent a keypoint
            before they are flattened. The paper's models without
            deconvolution have 28 or 32 (read off the published weights), all
            others 1. Defaults to 1.
        deconv_type (str): Stock head that makes the deconvolutions,
            ``'heatmap'`` or ``'vipnas'``. Defaults to ``'heatmap'``.
        deconv_out_channels (sequence[int], optional): Channels of each
            deconvolution; SimpleBaseline has (256, 256, 256). None by
            default: no deconvolution.
        deconv_kernel_sizes (sequence[int]): As in ``HeatmapHead``.
        deconv_num_groups (sequence[int]): As in ``ViPNASHead``.
        conv_out_channels (sequence[int], optional): Intermediate
            convolutions behind the deconvolutions, as in ``HeatmapHead``.
        conv_kernel_sizes (sequence[int], optional): Their kernel sizes.
        final_layer (dict, optional): The convolution to the keypoint
            representations. None flattens the features themselves, which
            must have ``out_channels * channels_per_keypoint`` channels.
            Defaults to ``dict(kernel_size=1)``.
        loss (dict): Defaults to :class:`SimCCKLLoss`.
        decoder (dict, optional): The codec; :class:`SimCCCodec`.
        init_cfg (dict, optional): See :attr:`default_init_cfg`.

    Raises:
        ValueError: An argument is out of its range or contradicts the
            decoder.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: Optional[Tuple[int, int]] = None,
        in_featuremap_size: Optional[Tuple[int, int]] = None,
        simcc_split_ratio: Optional[float] = None,
        channels_per_keypoint: int = 1,
        deconv_type: str = 'heatmap',
        deconv_out_channels: OptIntSeq = None,
        deconv_kernel_sizes: OptIntSeq = (4, 4, 4),
        deconv_num_groups: OptIntSeq = (16, 16, 16),
        conv_out_channels: OptIntSeq = None,
        conv_kernel_sizes: OptIntSeq = None,
        final_layer: OptConfigType = dict(kernel_size=1),
        loss: ConfigType = dict(type='SimCCKLLoss'),
        decoder: OptConfigType = None,
        init_cfg: OptConfigType = None,
    ) -> None:
        super().__init__(init_cfg or self.default_init_cfg)
        self.in_channels = check_int('in_channels', in_channels, 1)
        self.out_channels = check_int('out_channels', out_channels, 1)
        self.channels_per_keypoint = check_int('channels_per_keypoint', channels_per_keypoint, 1)
        check_choice('deconv_type', deconv_type, ('heatmap', 'vipnas'))
        self.decoder = KEYPOINT_CODECS.build(decoder) if decoder else None
        self.input_size = self._from_decoder('input_size', input_size)
        self.simcc_split_ratio = self._from_decoder('simcc_split_ratio', simcc_split_ratio)
        self.loss_module = MODELS.build(loss)
        self._check_loss()

        self.deconv_head = None
        self.final_layer = None
        if in_featuremap_size is None:
            if deconv_out_channels or channels_per_keypoint != 1:
                raise invalid(
                    'in_featuremap_size',
                    in_featuremap_size,
                    'given when `deconv_out_channels` or `channels_per_keypoint` are: '
                    'keypoint tokens take neither',
                )
            features = in_channels
        else:
            width, height = check_size('in_featuremap_size', in_featuremap_size)
            num_deconvs = len(deconv_out_channels or ())
            features = channels_per_keypoint * width * height * 4**num_deconvs
            channels = out_channels * channels_per_keypoint
            if deconv_out_channels:
                stock_head = dict(
                    type='HeatmapHead',
                    in_channels=in_channels,
                    out_channels=channels,
                    deconv_out_channels=deconv_out_channels,
                    deconv_kernel_sizes=deconv_kernel_sizes,
                    conv_out_channels=conv_out_channels,
                    conv_kernel_sizes=conv_kernel_sizes,
                    final_layer=final_layer,
                )
                if deconv_type == 'vipnas':
                    stock_head.update(type='ViPNASHead', deconv_num_groups=deconv_num_groups)
                self.deconv_head = MODELS.build(stock_head)
            elif final_layer is not None:
                self.final_layer = build_conv_layer(
                    {
                        **dict(type='Conv2d', kernel_size=1),
                        **final_layer,
                        **dict(in_channels=in_channels, out_channels=channels),
                    }
                )
        self.in_featuremap_size = in_featuremap_size

        num_bins = [round(size * self.simcc_split_ratio) for size in self.input_size]
        self.mlp_head_x = nn.Linear(features, num_bins[0])
        self.mlp_head_y = nn.Linear(features, num_bins[1])

    def _check_loss(self) -> None:
        """Scores and refinement have to use the probabilities that the loss uses."""
        for name in ('beta', 'label_softmax', 'label_beta'):
            known = getattr(self.decoder, name, None)
            given = getattr(self.loss_module, name, known)
            used = name != 'label_beta' or getattr(self.decoder, 'label_softmax', False)
            if known is not None and used and given != known:
                raise invalid(f'loss.{name}', given, f"the decoder's `{name}`, {known!r}")

    def _from_decoder(self, name: str, value):
        """An argument that the decoder has too: the decoder's by default, and equal to it."""
        known = getattr(self.decoder, name, None)
        if value is None:
            value = known
        elif isinstance(value, (list, tuple)):
            value = tuple(value)
        if value is None:
            raise invalid(name, value, 'given when there is no decoder')
        if known is not None and known != value:
            raise invalid(name, value, f"the decoder's, {known!r}")
        return value

    @property
    def default_init_cfg(self):
        return [
            dict(type='Normal', layer=['Conv2d', 'ConvTranspose2d'], std=0.001),
            dict(type='Constant', layer='BatchNorm2d', val=1),
            dict(type='Normal', layer=['Linear'], std=0.01, bias=0),
        ]

    def forward(self, feats: Tuple[Tensor]) -> Tuple[Tensor, Tensor]:
        """Logits along both axes.

        Args:
            feats (tuple[Tensor]): Feature maps, of which the last is used,
                shape (B, C, H, W), or keypoint tokens, shape (B, K, D).

        Returns:
            tuple[Tensor, Tensor]: Shapes (B, K, w * k) and (B, K, h * k).
        """
        if self.deconv_head is not None:
            x = self.deconv_head(feats)
        else:
            x = feats[-1]
            if self.final_layer is not None:
                x = self.final_layer(x)
        if self.in_featuremap_size is not None:
            # the channels of a keypoint are neighbours
            x = x.reshape(x.shape[0], self.out_channels, -1)
        return self.mlp_head_x(x), self.mlp_head_y(x)

    def _loss(self, pred: Vectors, target: Vectors, weights: Tensor) -> Tensor:
        return self.loss_module(pred, target, weights)

    def _responses(self, pred: Vectors) -> Vectors:
        return tuple(
            ((logits.float() * self.decoder.beta).softmax(-1) / peak).clamp(max=1)
            for logits, peak in zip(pred, self.decoder.perfect_peak)
        )
