# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = [
    'mmpose::body_2d_keypoint/topdown_heatmap/mpii/td-hm_hrnet-w32_8xb64-210e_mpii-256x256.py'
]

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    # as published: pictures and maps are cut out from the first cell's centre to the last's
    codec=dict(type='DARKCodec', use_udp=True),
    head=dict(type='TokenHeatmapHead', in_channels=3 * 192, heatmap_size=(64, 64)),
)

# HRNet's ImageNet weights
model = dict(
    backbone=dict(
        _delete_=True,
        type='TokenPose',
        arch='L/D6',
        num_keypoints=16,
        input_size=(256, 256),
        patch_size=(4, 4),
        stem_init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmpose/'
            'pretrain_models/hrnet_w48-8ef0771d.pth',
        ),
    )
)

# TokenPose's schedule
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
_base_.param_scheduler[-1].update(end=300, milestones=[200, 260])

train_dataloader = dict(batch_size=64)  # of each of 8 GPUs; the base has 16
