# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['td-hm_effnet-lite0-in1k_dark-1xb32-8e_lspet-128x128.py']

from mmpose_simcc.config import set_representation

# RTMPose's head and loss; its sigma is the root of an eighth of the size
set_representation(
    _base_,
    codec=dict(type='SimCCCodec', simcc_split_ratio=2, sigma=4.0),
    head=dict(
        type='RTMCCHead',
        input_size=(128, 128),
        in_featuremap_size=(4, 4),
        simcc_split_ratio=2,
        final_layer_kernel_size=7,
        gau_cfg=dict(
            hidden_dims=256,
            s=128,
            expansion_factor=2,
            dropout_rate=0.0,
            drop_path=0.0,
            act_fn='SiLU',
            use_rel_bias=False,
            pos_enc=False,
        ),
        loss=dict(type='KLDiscretLoss', use_target_weight=True, beta=10.0, label_softmax=True),
    ),
)
