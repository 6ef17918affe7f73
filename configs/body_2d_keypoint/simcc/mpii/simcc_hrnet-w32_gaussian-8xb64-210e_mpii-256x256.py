# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = [
    'mmpose::body_2d_keypoint/topdown_heatmap/mpii/td-hm_hrnet-w32_8xb64-210e_mpii-256x256.py'
]

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(
        type='SimCCCodec',
        simcc_split_ratio=2,
        label_smoothing='gaussian',
        sigma=6,
    ),
    head=dict(type='SimCCClassifierHead'),
)

train_dataloader = dict(batch_size=64)  # of each of 8 GPUs; the base has 16
