# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res152_8xb32-210e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(
        type='SimCCCodec',
        input_size=(128, 128),
        simcc_split_ratio=3,
        label_smoothing='equal',
    ),
    head=dict(type='SimCCClassifierHead', deconv_out_channels=(256, 256, 256)),
)

auto_scale_lr = dict(base_batch_size=256)
