# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='HeatmapCodec', input_size=(64, 64)))
# too few steps to learn from distorted boxes as well
_base_.train_dataloader.dataset.pipeline = [
    transform
    for transform in _base_.train_dataloader.dataset.pipeline
    if transform.type not in ('RandomHalfBody', 'RandomBBoxTransform')
]

# drawn by tools/make_toy_coco.py
data_root = 'data/toy_coco/'
ann_file = 'annotations/person_keypoints_val2017.json'
train_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root, bbox_file=''))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + ann_file)
test_evaluator = val_evaluator

# from scratch: residual branches that start at zero would learn too late
model = dict(
    backbone=dict(
        depth=18,
        zero_init_residual=False,
        init_cfg=[
            dict(type='Kaiming', layer=['Conv2d']),
            dict(type='Constant', val=1, layer=['_BatchNorm']),
        ],
    ),
    head=dict(in_channels=512),
)

# a schedule for a few minutes on two CPU cores, from scratch; the learning rate is the best of the
# grid in configs/studies/toy_recipe.yml, for heatmaps, DARK and SimCC alike
max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=8)
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
