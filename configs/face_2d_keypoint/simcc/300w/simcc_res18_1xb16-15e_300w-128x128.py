# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['simcc_res18_1xb16-15e_300w-64x64.py']

from mmpose_simcc.config import set_representation

set_representation(_base_, codec=dict(type='SimCCCodec', input_size=(128, 128)))
