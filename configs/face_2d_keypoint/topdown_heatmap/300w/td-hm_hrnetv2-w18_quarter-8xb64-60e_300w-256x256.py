# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = [
    'mmpose::face_2d_keypoint/topdown_heatmap/300w/td-hm_hrnetv2-w18_8xb64-60e_300w-256x256.py'
]

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='HeatmapCodec'))
