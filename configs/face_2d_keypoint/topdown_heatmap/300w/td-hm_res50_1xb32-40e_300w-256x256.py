# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['td-hm_res18_1xb16-15e_300w-64x64.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='HeatmapCodec', input_size=(256, 256), sigma=1.5))

model = dict(backbone=dict(depth=50), head=dict(in_channels=2048))

# a schedule for a few minutes on one GPU, with the learning rate of 64x64
train_dataloader = dict(batch_size=32, num_workers=4)
max_epochs = 40
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=32)
_base_.param_scheduler[1].update(T_max=max_epochs, end=max_epochs)
default_hooks = dict(checkpoint=dict(interval=5))
