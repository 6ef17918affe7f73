# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import pytest
import torch
from mmengine.config import Config
from mmpose.registry import MODELS
from mmpose.utils import register_all_modules

from mmpose_simcc.config import _dicts_of_type, set_representation

register_all_modules()
COCO = 'mmpose::body_2d_keypoint/{}/coco/{}.py'
RES50 = COCO.format('topdown_heatmap', 'td-hm_res50_8xb64-210e_coco-256x192')
HRNET = COCO.format('topdown_heatmap', 'td-hm_hrnet-w32_8xb64-210e_coco-256x192')
UDP = COCO.format('topdown_heatmap', 'td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192')
SIMCC = COCO.format('simcc', 'simcc_res50_8xb64-210e_coco-256x192')
SIMCC_HEAD = dict(type='SimCCClassifierHead')


def load(base, tmp_path, call, after=''):
    path = tmp_path / 'config.py'
    path.write_text(
        f'_base_ = [{base!r}]\n'
        'from mmpose_simcc.config import set_representation\n'
        f'set_representation(_base_, {call})\n{after}\n'
    )
    return Config.fromfile(path)


def without_type(codec):
    return {k: v for k, v in codec.items() if k != '_scope_'}


def check_one_codec_everywhere(cfg):
    codec = without_type(cfg.codec)
    assert without_type(cfg.model.head.decoder) == codec
    targets = list(_dicts_of_type(cfg._cfg_dict, 'GenerateTarget'))
    affines = list(_dicts_of_type(cfg._cfg_dict, 'TopdownAffine'))
    assert targets and affines
    for target in targets:
        assert without_type(target['encoder']) == codec
    for affine in affines:
        assert affine['input_size'] == codec['input_size']
    # what the loaders hold, not only the top-level pipelines
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert list(_dicts_of_type(loader.dataset.pipeline, 'TopdownAffine'))


def outputs(cfg):
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).eval()
    w, h = cfg.codec.input_size
    with torch.no_grad():
        return model(torch.zeros(1, 3, h, w), None, mode='tensor')


class TestSetRepresentation:
    def test_heatmap_to_simcc(self, tmp_path):
        cfg = load(
            RES50,
            tmp_path,
            'codec=dict(type="SimCCCodec", input_size=(128, 64)), '
            'head=dict(type="SimCCClassifierHead", channels_per_keypoint=4)',
        )
        check_one_codec_everywhere(cfg)
        assert 'sigma' not in cfg.codec  # cells are not bins
        assert cfg.model.head.in_featuremap_size == (4, 2)
        assert cfg.custom_imports.imports == ['mmpose_simcc']
        assert cfg.model.test_cfg == dict(flip_test=True)
        x, y = outputs(cfg)
        assert x.shape == (1, 17, 256) and y.shape == (1, 17, 128)

    def test_stride_of_hrnet(self, tmp_path):
        cfg = load(
            HRNET,
            tmp_path,
            'codec=dict(type="SimCCCodec", input_size=(64, 96)), '
            'head=dict(type="SimCCClassifierHead")',
        )
        assert cfg.model.head.in_featuremap_size == (16, 24)
        assert cfg.model.head.in_channels == 32

    @pytest.mark.parametrize('codec', ['HeatmapCodec', 'DARKCodec', 'DAECCodec'])
    def test_decoder_by_its_name_alone(self, tmp_path, codec):
        cfg = load(RES50, tmp_path, f'codec=dict(type="{codec}")')
        check_one_codec_everywhere(cfg)
        assert without_type(cfg.codec) == dict(
            type=codec, input_size=(192, 256), heatmap_size=(48, 64), sigma=2
        )
        assert cfg.model.head.type == 'HeatmapHead'

    def test_heatmap_follows_the_input_size(self, tmp_path):
        cfg = load(RES50, tmp_path, 'codec=dict(type="DARKCodec", input_size=(64, 96))')
        assert cfg.codec.heatmap_size == (16, 24)
        assert outputs(cfg).shape == (1, 17, 24, 16)

    def test_the_file_may_go_on_changing_things(self, tmp_path):
        cfg = load(
            RES50,
            tmp_path,
            'codec=dict(type="DARKCodec")',
            'model = dict(backbone=dict(depth=18), head=dict(in_channels=512))',
        )
        assert cfg.model.backbone.depth == 18
        assert cfg.model.head.decoder.type == 'DARKCodec'
        check_one_codec_everywhere(cfg)

    def test_stock_simcc_keeps_its_head(self, tmp_path):
        cfg = load(
            SIMCC,
            tmp_path,
            'codec=dict(type="SimCCCodec", input_size=(96, 128), simcc_split_ratio=3)',
        )
        check_one_codec_everywhere(cfg)
        assert cfg.model.head.type == 'SimCCHead'
        assert cfg.codec.sigma == 6.0
        x, y = outputs(cfg)
        assert x.shape == (1, 17, 288) and y.shape == (1, 17, 384)

    def test_simcc_to_heatmap(self, tmp_path):
        cfg = load(
            SIMCC,
            tmp_path,
            'codec=dict(type="DARKCodec", heatmap_size=(48, 64), sigma=2), '
            'head=dict(type="HeatmapHead")',
        )
        check_one_codec_everywhere(cfg)
        assert cfg.model.test_cfg == dict(flip_test=True, flip_mode='heatmap', shift_heatmap=True)
        assert outputs(cfg).shape == (1, 17, 64, 48)

    def test_udp_base_loses_its_alignment(self, tmp_path):
        cfg = load(UDP, tmp_path, 'codec=dict(type="HeatmapCodec")')
        for affine in _dicts_of_type(cfg._cfg_dict, 'TopdownAffine'):
            assert 'use_udp' not in affine
        assert cfg.model.test_cfg.shift_heatmap

    def test_on_a_loaded_config(self, tmp_path):
        cfg = load(RES50, tmp_path, 'codec=dict(type="DARKCodec")')
        set_representation(cfg, dict(type='SimCCCodec'), SIMCC_HEAD)
        check_one_codec_everywhere(cfg)

    def test_survives_a_dump(self, tmp_path):
        cfg = load(
            RES50, tmp_path, 'codec=dict(type="SimCCCodec"), head=dict(type="SimCCClassifierHead")'
        )
        cfg.dump(tmp_path / 'dumped.py')
        again = Config.fromfile(tmp_path / 'dumped.py')
        assert again.model.head == cfg.model.head
        check_one_codec_everywhere(again)

    def test_codecs_are_not_shared_between_places(self, tmp_path):
        cfg = load(RES50, tmp_path, 'codec=dict(type="DARKCodec")')
        cfg.merge_from_dict({'model.head.decoder.type': 'DAECCodec'})
        assert cfg.codec.type == 'DARKCodec'
        assert cfg.train_pipeline[-2].encoder.type == 'DARKCodec'

    @pytest.mark.parametrize(
        'call,message',
        [
            ('codec=dict(type="SimCCCodec")', '`head` must be given'),
            ('codec=dict(type="MSRAHeatmap")', '`codec` must be a codec of'),
            ('codec=dict(type="DARKCodec", sigma=-1)', '`sigma` must be'),
            (
                'codec=dict(type="SimCCCodec", input_size=(65, 64)), '
                'head=dict(type="SimCCClassifierHead")',
                'multiple of the stride',
            ),
        ],
    )
    def test_errors(self, tmp_path, call, message):
        with pytest.raises(ValueError, match=message):
            load(RES50, tmp_path, call)

    def test_not_top_down(self, tmp_path):
        bottom_up = COCO.format('associative_embedding', 'ae_hrnet-w32_8xb24-300e_coco-512x512')
        with pytest.raises(ValueError, match='top-down|one `encoder`'):
            load(bottom_up, tmp_path, 'codec=dict(type="DARKCodec")')


@pytest.mark.parametrize('decoder', ['HeatmapCodec', 'DARKCodec', 'DAECCodec'])
def test_decoders_swap_by_type_on_stock_configs(decoder):
    """What --cfg-options model.head.decoder.type=... does."""
    for name in (
        'td-hm_res50_8xb64-210e_coco-256x192',
        'td-hm_res50_8xb64-210e_coco-384x288',
        'td-hm_res50_dark-8xb64-210e_coco-384x288',
    ):
        path, _ = Config._get_cfg_path(COCO.format('topdown_heatmap', name), __file__)
        cfg = Config.fromfile(path)
        cfg.merge_from_dict({'model.head.decoder.type': decoder})
        cfg.model.backbone.init_cfg = None
        head = MODELS.build(cfg.model.head)
        assert type(head.decoder).__name__ == decoder


def test_pure_python_config(tmp_path):
    """Types by import instead of by name."""
    path = tmp_path / 'pure.py'
    path.write_text("""
from mmpose.models import HeatmapHead
from mmpose_simcc import DAECCodec

codec = dict(type=DAECCodec, input_size=(192, 256), heatmap_size=(48, 64),
             sigma=2, delta=3.5)
head = dict(type=HeatmapHead, in_channels=8, out_channels=17, decoder=codec)
""")
    cfg = Config.fromfile(path)
    head = MODELS.build(cfg.head)
    assert type(head.decoder).__name__ == 'DAECCodec'
    assert head.decoder.delta == 3.5
    cfg.dump(tmp_path / 'dumped.py')
    assert 'mmpose_simcc' in (tmp_path / 'dumped.py').read_text()
