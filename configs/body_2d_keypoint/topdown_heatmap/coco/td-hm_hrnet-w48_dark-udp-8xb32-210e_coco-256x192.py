# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = [
    'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w48_8xb32-210e_coco-256x192.py'
]

from mmpose_simcc.config import set_representation

# as published: pictures and maps are cut out from the first cell's centre to the last's
set_representation(_base_, codec=dict(type='DARKCodec', use_udp=True))

auto_scale_lr = dict(base_batch_size=256)
