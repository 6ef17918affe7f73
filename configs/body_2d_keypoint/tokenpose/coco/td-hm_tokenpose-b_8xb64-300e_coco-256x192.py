# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['./td-hm_tokenpose-s_8xb64-300e_coco-256x192.py']

# HRNet's ImageNet weights
model = dict(
    backbone=dict(
        arch='B',
        stem_init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmpose/'
            'pretrain_models/hrnet_w32-36af842e.pth',
        ),
    )
)
