# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['td-hm_effnet-lite0-in1k_dark-1xb16-15e_300w-128x128.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='DARKCodec', input_size=(64, 64)))
# chosen on held-out training faces, see docs/results.md
optim_wrapper = dict(optimizer=dict(lr=4e-3))
