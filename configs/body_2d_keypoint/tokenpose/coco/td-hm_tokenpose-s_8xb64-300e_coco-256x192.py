# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = [
    'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py'
]

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    # as published: pictures and maps are cut out from the first cell's centre to the last's
    codec=dict(type='DARKCodec', use_udp=True),
    head=dict(type='TokenHeatmapHead', in_channels=192, heatmap_size=(48, 64)),
)

model = dict(backbone=dict(_delete_=True, type='TokenPose', arch='S'))

# TokenPose's schedule
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
_base_.param_scheduler[-1].update(end=300, milestones=[200, 260])
