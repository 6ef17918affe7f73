# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/mpii/td-hm_res50_8xb64-210e_mpii-256x256.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='HeatmapCodec'))
