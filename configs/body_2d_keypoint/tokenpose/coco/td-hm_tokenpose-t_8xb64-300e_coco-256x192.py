# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['./td-hm_tokenpose-s_8xb64-300e_coco-256x192.py']

model = dict(backbone=dict(arch='T'))
