# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py']

from mmpose_simcc.config import set_representation

# one bin a pixel; as wide as the 2-D heatmaps', 2 cells of 4 pixels
set_representation(
    _base_,
    codec=dict(
        type='SimCCCodec',
        input_size=(256, 256),
        simcc_split_ratio=1,
        label_smoothing='gaussian',
        sigma=8,
        score='maximum',
    ),
    head=dict(type='Heatmap1DHead', in_featuremap_size=(8, 8)),
)
