# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['../../topdown_heatmap/300w/td-hm_res50_1xb32-40e_300w-256x256.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(type='SimCCCodec', simcc_split_ratio=2, sigma=6.0),
    head=dict(type='SimCCClassifierHead', channels_per_keypoint=32),
)

# that of 64x64
optim_wrapper = dict(optimizer=dict(lr=4e-3))
