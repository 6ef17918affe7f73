# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['./td-hm_tokenpose-s_8xb64-300e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(type='DARKCodec', input_size=(64, 64), sigma=1),
    head=dict(type='TokenHeatmapHead', in_channels=192, heatmap_size=(16, 16)),
)

model = dict(backbone=dict(input_size=(64, 64), patch_size=(1, 1)))
