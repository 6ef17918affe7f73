# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['../../topdown_heatmap/300w/td-hm_res18_1xb16-15e_300w-128x128.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='DARKCodec'))

custom_imports = dict(imports=['mmpretrain.models', 'mmpose_simcc'], allow_failed_imports=False)
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
    head=dict(in_channels=320),
)
