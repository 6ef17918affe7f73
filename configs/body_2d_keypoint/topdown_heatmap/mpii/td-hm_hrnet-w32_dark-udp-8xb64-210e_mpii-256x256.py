# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = [
    'mmpose::body_2d_keypoint/topdown_heatmap/mpii/td-hm_hrnet-w32_8xb64-210e_mpii-256x256.py'
]

from mmpose_simcc.config import set_representation

# as published: pictures and maps are cut out from the first cell's centre to the last's
set_representation(_base_, codec=dict(type='DARKCodec', use_udp=True))

train_dataloader = dict(batch_size=64)  # of each of 8 GPUs; the base has 16
