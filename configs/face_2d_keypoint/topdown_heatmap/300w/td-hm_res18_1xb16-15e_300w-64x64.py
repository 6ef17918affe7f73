# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = [
    'mmpose::face_2d_keypoint/topdown_heatmap/300w/td-hm_hrnetv2-w18_8xb64-60e_300w-256x256.py'
]

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='HeatmapCodec', input_size=(64, 64), sigma=2.0))
# too few steps to learn from turned faces as well
_base_.train_dataloader.dataset.pipeline = [
    transform
    for transform in _base_.train_dataloader.dataset.pipeline
    if transform.type != 'RandomBBoxTransform'
]

train_dataloader = dict(batch_size=16)

# from scratch: residual branches that start at zero would learn too late
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        zero_init_residual=False,
        init_cfg=[
            dict(type='Kaiming', layer=['Conv2d']),
            dict(type='Constant', val=1, layer=['_BatchNorm']),
        ],
    ),
    neck=None,
    head=dict(
        in_channels=512,
        deconv_out_channels=(256, 256, 256),
        conv_out_channels=None,
        conv_kernel_sizes=None,
    ),
)

# a schedule for a few minutes on two CPU cores, from scratch; the learning
# rate is the best of the grid in configs/studies/faces_recipe.yml
max_epochs = 15
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
