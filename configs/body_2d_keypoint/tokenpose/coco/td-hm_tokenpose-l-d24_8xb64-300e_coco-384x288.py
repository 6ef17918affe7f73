# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['./td-hm_tokenpose-l-d24_8xb64-300e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(type='DARKCodec', input_size=(288, 384), sigma=3),
    head=dict(type='TokenHeatmapHead', heatmap_size=(72, 96)),
)

model = dict(backbone=dict(input_size=(288, 384), patch_size=(4, 6)))
