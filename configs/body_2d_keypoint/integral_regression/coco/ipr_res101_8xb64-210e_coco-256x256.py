# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['mmpose::body_2d_keypoint/integral_regression/coco/ipr_res50_8xb64-210e_coco-256x256.py']

custom_imports = dict(imports=['mmpose_simcc'])

# as MMPose's, it starts from the heatmap model of its backbone
model = dict(
    backbone=dict(depth=101),
    init_cfg=dict(
        checkpoint='https://download.openmmlab.com/mmpose/v1/'
        'body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_res101_8xb64-210e_coco-256x192-065d3625_20220926.pth'
    ),
)
