# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res101_8xb64-210e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(
        type='SimCCCodec',
        input_size=(128, 128),
        simcc_split_ratio=2,
        label_smoothing='equal',
    ),
    head=dict(type='SimCCClassifierHead', deconv_out_channels=(256, 256, 256)),
)
