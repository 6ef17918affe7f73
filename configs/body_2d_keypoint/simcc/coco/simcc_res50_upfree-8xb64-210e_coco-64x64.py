# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(
        type='SimCCCodec',
        input_size=(64, 64),
        simcc_split_ratio=3,
        label_smoothing='equal',
    ),
    head=dict(type='SimCCClassifierHead', channels_per_keypoint=32),
)
