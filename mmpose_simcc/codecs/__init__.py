# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from .daec import DAECCodec
from .dark import DARKCodec
from .heatmap import HeatmapCodec
from .simcc import SimCCCodec
from .stock import equivalent_codec

__all__ = [
    'DAECCodec',
    'DARKCodec',
    'HeatmapCodec',
    'SimCCCodec',
    'equivalent_codec',
]
