# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .heatmap1d_head import Heatmap1DHead
from .simcc_classifier_head import SimCCClassifierHead
from .token_heatmap_head import TokenHeatmapHead

__all__ = ['Heatmap1DHead', 'SimCCClassifierHead', 'TokenHeatmapHead']
