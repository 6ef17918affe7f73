# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['../../topdown_heatmap/300w/td-hm_res18_1xb16-15e_300w-64x64.py']

from mmpose_simcc.config import set_representation

set_representation(
    _base_,
    codec=dict(type='SimCCCodec', simcc_split_ratio=2, sigma=4.0),
    head=dict(type='SimCCClassifierHead', channels_per_keypoint=32),
)

# the best of the grid in configs/studies/faces_recipe.yml, as the heatmap's 1e-3
optim_wrapper = dict(optimizer=dict(lr=4e-3))
