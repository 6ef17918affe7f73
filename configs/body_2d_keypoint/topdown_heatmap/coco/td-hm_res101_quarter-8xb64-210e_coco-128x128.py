# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res101_8xb64-210e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='HeatmapCodec', input_size=(128, 128), sigma=1))
