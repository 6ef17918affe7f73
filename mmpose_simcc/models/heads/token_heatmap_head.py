# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Heatmaps from keypoint tokens."""

from typing import Tuple

from mmpose.models.heads import HeatmapHead
from mmpose.registry import MODELS
from mmpose.utils.typing import ConfigType, OptConfigType
from torch import Tensor, nn


@MODELS.register_module()
class TokenHeatmapHead(HeatmapHead):
    """Heatmap head of `TokenPose`_ (Li et al., ICCV 2021, Section 3.2): an
    MLP, shared by all keypoints, maps each keypoint token to its heatmap.

    The MLP is LayerNorm, Linear, LayerNorm, Linear with an eighth of the
    heatmap's cells as hidden channels where these are at least twice the
    token's channels, else LayerNorm, Linear. Loss, prediction and flip test
    are those of :class:`mmpose.models.HeatmapHead`.

    Args:
        in_channels (int): Channels D of a token.
        out_channels (int): Keypoints K.
        heatmap_size (tuple): Size (w, h) of the heatmaps in cells.
        loss (dict): Config of the loss. Defaults to
            :class:`mmpose.models.KeypointMSELoss` with target weights.
        decoder (dict, optional): Config of the codec that decodes heatmaps.
        init_cfg (dict, optional): Initialization config.

    .. _TokenPose: https://arxiv.org/abs/2104.03516
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heatmap_size: Tuple[int, int],
        loss: ConfigType = dict(type='KeypointMSELoss', use_target_weight=True),
        decoder: OptConfigType = None,
        init_cfg: OptConfigType = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            deconv_out_channels=None,
            final_layer=None,
            loss=loss,
            decoder=decoder,
            init_cfg=init_cfg,
        )
        self.heatmap_size = tuple(heatmap_size)
        w, h = self.heatmap_size
        hidden_channels = w * h // 8
        layers = [nn.LayerNorm(in_channels)]
        if in_channels <= hidden_channels // 2:
            layers += [nn.Linear(in_channels, hidden_channels), nn.LayerNorm(hidden_channels)]
            in_channels = hidden_channels
        self.mlp_head = nn.Sequential(*layers, nn.Linear(in_channels, w * h))

    @property
    def default_init_cfg(self):
        return [
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1),
        ]

    def forward(self, feats: Tuple[Tensor]) -> Tensor:
        """Compute heatmaps.

        Args:
            feats (tuple[Tensor]): The last are keypoint tokens (B, K, D).

        Returns:
            Tensor: Heatmaps, shape (B, K, h, w).
        """
        w, h = self.heatmap_size
        return self.mlp_head(feats[-1]).unflatten(-1, (h, w))
