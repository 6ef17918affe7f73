# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['td-hm_effnet-lite0-in1k_dark-1xb32-8e_lspet-128x128.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(type='SimCCCodec', simcc_split_ratio=2, sigma=4.0),
    head=dict(type='SimCCClassifierHead', channels_per_keypoint=28),
)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
