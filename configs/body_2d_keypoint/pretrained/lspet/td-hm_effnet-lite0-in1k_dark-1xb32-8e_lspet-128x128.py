# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
# Leeds Sports Pose Extended (Johnson and Everingham, CVPR 2011), brought to COCO's layout
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='DARKCodec', input_size=(128, 128)))

custom_imports = dict(imports=['mmpretrain.models', 'mmpose_simcc'], allow_failed_imports=False)
names = ['ankle', 'knee', 'hip', 'hip', 'knee', 'ankle']
names += ['wrist', 'elbow', 'shoulder', 'shoulder', 'elbow', 'wrist']
names = [
    *(f'{side}_{name}' for name, side in zip(names, (['right'] * 3 + ['left'] * 3) * 2)),
    'neck',
    'head_top',
]
mirrored = {
    name: name.replace('right', '%').replace('left', 'right').replace('%', 'left') for name in names
}
metainfo = dict(
    dataset_name='lspet',
    keypoint_info={
        index: dict(
            name=name,
            id=index,
            color=[51, 153, 255],
            type='lower' if index < 6 else 'upper',
            swap=mirrored[name] if mirrored[name] != name else '',
        )
        for index, name in enumerate(names)
    },
    skeleton_info={},
    joint_weights=[1.0] * 14,
    # COCO's; of neck and top of the head CrowdPose's
    sigmas=[0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062]
    + [0.079, 0.079],
)
data_root = 'data/lspet/'
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/val.json',
        bbox_file='',
        data_prefix=dict(img='images/'),
    )
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json'),
    dict(type='PCKAccuracy', thr=0.1),
]
test_evaluator = val_evaluator

model = dict(
    # what the ImageNet weights were trained with
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        out_indices=(4,),
        # made by tools/convert_official.py, see docs/weights.md
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/efficientnet-lite0_in1k.pth'),
    ),
    head=dict(in_channels=320, out_channels=14),
)

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', T_max=max_epochs, end=max_epochs, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
