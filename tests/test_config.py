# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import copy
import functools

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as RUNNER_MODELS
from mmengine.registry import DefaultScope
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.utils import register_all_modules

from mmpose_simcc import DARKCodec, SimCCClassifierHead, SimCCCodec, SimCCKLLoss
from mmpose_simcc.config import check_config, check_frames, set_representation
from mmpose_simcc.config.sizes import STRIDE_32
from mmpose_simcc.utils.configs import dicts_of_type
from mmpose_simcc.utils.inference import load_config
from mmpose_simcc.workbench.compare import CompareError
from mmpose_simcc.workbench.compare.runs import read_config

register_all_modules()
COCO = 'mmpose::body_2d_keypoint/{}/coco/{}.py'
RES50 = COCO.format('topdown_heatmap', 'td-hm_res50_8xb64-210e_coco-256x192')
HRNET = COCO.format('topdown_heatmap', 'td-hm_hrnet-w32_8xb64-210e_coco-256x192')
UDP = COCO.format('topdown_heatmap', 'td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192')
SIMCC = COCO.format('simcc', 'simcc_res50_8xb64-210e_coco-256x192')
COMBINED = COCO.format('topdown_heatmap', 'td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192')
VISIBILITY = COCO.format('topdown_heatmap', 'td-hm-vis_res50_8xb64-210e_coco-aic-256x192-merge')
ALEXNET = COCO.format('topdown_heatmap', 'td-hm_alexnet_8xb64-210e_coco-256x192')
MSPN = COCO.format('topdown_heatmap', 'td-hm_mspn50_8xb32-210e_coco-256x192')
REGRESSION = COCO.format('topdown_regression', 'td-reg_res50_rle-8xb64-210e_coco-256x192')
INTEGRAL = COCO.format('integral_regression', 'ipr_res50_8xb64-210e_coco-256x256')
# says UDP in its name and at its top level, but not in what its loaders hold
STALE = (
    'mmpose::fashion_2d_keypoint/topdown_heatmap/deepfashion/'
    'td-hm_hrnet-w32_udp_8xb64-210e_deepfashion_full-256x192.py'
)
# UDPHeatmap without UDP in the pipelines
HALF_UDP = 'mmpose::body_2d_keypoint/topdown_heatmap/mpii/cspnext-m_udp_8xb64-210e_mpii-256x256.py'
RTMPOSE = 'mmpose::body_2d_keypoint/rtmpose/body8/rtmpose-t_8xb256-420e_body8-256x192.py'
RTMW = 'mmpose::wholebody_2d_keypoint/rtmpose/cocktail14/rtmw-m_8xb1024-270e_cocktail14-256x192.py'
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
    targets = list(dicts_of_type(cfg._cfg_dict, 'GenerateTarget'))
    affines = list(dicts_of_type(cfg._cfg_dict, 'TopdownAffine'))
    assert targets and affines
    for target in targets:
        assert without_type(target['encoder']) == codec
    for affine in affines:
        assert affine['input_size'] == codec['input_size']
    # what the loaders hold, not only the top-level pipelines
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert list(dicts_of_type(loader.dataset.pipeline, 'TopdownAffine'))


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
        assert cfg.model.type == 'ExactFlipPoseEstimator'
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
                'must be a multiple of 32, .* of ResNet, but got .65, 64.',
            ),
        ],
    )
    def test_errors(self, tmp_path, call, message):
        with pytest.raises(ValueError, match=message):
            load(RES50, tmp_path, call)

    @pytest.mark.parametrize('base,size', [(RES50, (144, 192)), (HRNET, (80, 112))])
    def test_sizes_that_the_maps_do_not_divide(self, base, size):
        """ResNet's last stage of 4.5 cells is 5, so that 40 cells come out, not 36; HRNet cannot
        add its branches."""
        cfg = stock(base)
        with pytest.raises(ValueError, match='`codec.input_size` must be a multiple of 32'):
            set_representation(cfg, dict(type='DARKCodec', input_size=size))
        assert cfg._cfg_dict == stock(base)._cfg_dict

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


class TestDecodersOfSimCCSwapByType:
    """What --cfg-options model.head.decoder.type=SimCCCodec does."""

    @staticmethod
    def head(name, **changes):
        cfg = stock(name)
        cfg.merge_from_dict({'model.head.decoder.type': 'SimCCCodec'})
        cfg.merge_from_dict({f'model.head.decoder.{k}': v for k, v in changes.items()})
        return MODELS.build(cfg.model.head)

    @pytest.mark.parametrize(
        'name,changes',
        [
            (SIMCC, {}),
            (RTMPOSE, dict(label_softmax=True, beta=10)),
            (RTMW, dict(label_softmax=True)),
        ],
    )
    def test_works(self, name, changes):
        """And gives what set_representation gives."""
        decoder = self.head(name, **changes).decoder
        cfg = stock(name)
        set_representation(cfg, dict(type='SimCCCodec'))
        expected = KEYPOINT_CODECS.build(cfg.codec)
        for attribute in ('num_bins', 'perfect_mass', 'beta', 'label_softmax', 'label_beta'):
            assert getattr(decoder, attribute) == getattr(expected, attribute)

    @pytest.mark.parametrize('name', [RTMPOSE, RTMW])
    def test_says_what_to_add(self, name):
        with pytest.raises(ValueError, match='`label_softmax` must be that of') as error:
            self.head(name)
        assert 'label_softmax=True, beta=10' in str(error.value)
        assert len(str(error.value).splitlines()) == 1

    @pytest.mark.parametrize(
        'change,message',
        [
            (dict(use_dark=True), "`use_dark` must be False: here it is `refine='dark'`"),
            (dict(decode_visibility=True), '`decode_visibility` must be False'),
            (dict(smoothing_type='standard'), "`smoothing_type` must be 'gaussian': `label_sm"),
            (dict(label_smooth_weight=0.1), '`label_smooth_weight` must be 0.0: here it is `smoo'),
        ],
    )
    def test_what_stock_alone_has(self, change, message):
        with pytest.raises(ValueError) as error:
            self.head(SIMCC, **change)
        assert message in str(error.value)

    def test_other_arguments(self):
        with pytest.raises(TypeError, match='SimCCCodec has no argument `heatmap_size`'):
            self.head(SIMCC, heatmap_size=(48, 64))


class TestNothingIsHalfDone:
    """An error leaves the config as it was."""

    @pytest.mark.parametrize(
        'codec,head,message',
        [
            (dict(type='SimCCCodec'), dict(type='HeatmapHead'), 'must be one for SimCCCodec'),
            (dict(type='DARKCodec'), SIMCC_HEAD, 'must be one for DARKCodec'),
            (dict(type='SimCCCodec'), dict(type='RLEHead'), 'must be one for SimCCCodec'),
            (dict(type='DARKCodec'), dict(type='RegressionHead'), 'must be one for DARKCodec'),
            (
                dict(type='DARKCodec', heatmap_size=(48, 64)),
                dict(type='DSNTHead', in_featuremap_size=(6, 8)),
                'must be one for DARKCodec',
            ),
            (
                dict(type='DARKCodec'),
                dict(type='TokenHeatmapHead', heatmap_size=(9, 9)),
                '`head.heatmap_size` must be',
            ),
            (dict(type='SimCCCodec'), None, '`head` must be given'),
            (dict(type='DARKCodec'), dict(type='HeatmapHead', decoder={}), '`head.decoder` must'),
            (dict(type='DARKCodec', sigma=-1), None, '`sigma` must be'),
            (dict(input_size=(192, 256)), None, '`codec` must be a dict with a `type`'),
            ('DARKCodec', None, '`codec` must be a dict with a `type`'),
            (dict(type='NoCodec'), None, '`codec` must be a codec of mmpose_simcc'),
        ],
    )
    def test_codec_and_head(self, codec, head, message):
        cfg = stock(RES50)
        with pytest.raises(ValueError, match=message):
            set_representation(cfg, codec, head)
        assert cfg._cfg_dict == stock(RES50)._cfg_dict

    def test_several_encoders_at_the_end_of_a_config(self):
        cfg = stock(RES50)
        target = list(dicts_of_type(cfg._cfg_dict, 'GenerateTarget'))[-1]
        target['encoder'] = [target['encoder']] * 2
        before = copy.deepcopy(cfg)
        with pytest.raises(ValueError, match='GenerateTarget has one `encoder`'):
            set_representation(cfg, dict(type='DARKCodec', input_size=(96, 128)))
        assert cfg._cfg_dict == before._cfg_dict


class TestUnusualConfigs:
    @pytest.mark.parametrize('imports', ['my_module', ['my_module'], ('my_module',)])
    def test_imports_of_the_base(self, imports):
        cfg = stock(RES50)
        cfg.custom_imports = dict(imports=imports)
        set_representation(cfg, dict(type='DARKCodec'))
        assert cfg.custom_imports.imports == ['my_module', 'mmpose_simcc']

    @pytest.mark.parametrize('imports', [None, {}, dict(imports=None)])
    def test_no_imports(self, imports):
        cfg = stock(RES50)
        cfg.custom_imports = imports
        set_representation(cfg, dict(type='DARKCodec'))
        assert cfg.custom_imports.imports == ['mmpose_simcc']

    @pytest.mark.parametrize('test_cfg', [None, {}])
    def test_without_a_flip_test(self, test_cfg):
        cfg = stock(RES50)
        cfg.model.test_cfg = test_cfg
        set_representation(cfg, dict(type='DARKCodec'))
        assert not (cfg.model.get('test_cfg') or {}).get('flip_test')

    def test_types_with_their_scope(self):
        cfg = stock(RES50)
        cfg.model.head.type = 'mmpose.HeatmapHead'
        for codec in dicts_of_type(cfg._cfg_dict, 'MSRAHeatmap'):
            codec['type'] = 'mmpose.MSRAHeatmap'
        set_representation(cfg, dict(type='mmpose.DARKCodec', input_size=(96, 128)))
        assert cfg.codec.heatmap_size == (24, 32)


PURE = """
from mmcv.transforms import LoadImageFromFile
from mmpose.codecs import MSRAHeatmap
from mmpose.datasets import CocoDataset, GenerateTarget, GetBBoxCenterScale, PackPoseInputs
from mmpose.datasets import TopdownAffine
from mmpose.evaluation import CocoMetric
from mmpose.models import HeatmapHead, KeypointMSELoss, PoseDataPreprocessor, ResNet
from mmpose.models import TopdownPoseEstimator

codec = dict(type=MSRAHeatmap, input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
model = dict(
    type=TopdownPoseEstimator,
    data_preprocessor=dict(type=PoseDataPreprocessor, bgr_to_rgb=True),
    backbone=dict(type=ResNet, depth=18),
    head=dict(
        type=HeatmapHead,
        in_channels=512,
        out_channels=17,
        loss=dict(type=KeypointMSELoss, use_target_weight=True),
        decoder=codec,
    ),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=True),
)
pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=GetBBoxCenterScale),
    dict(type=TopdownAffine, input_size=codec['input_size']),
    dict(type=GenerateTarget, encoder=codec),
    dict(type=PackPoseInputs),
]
train_dataloader = dict(batch_size=2, dataset=dict(type=CocoDataset, pipeline=pipeline))
val_evaluator = dict(type=CocoMetric, ann_file='none.json')
"""


class TestPurePython:
    """Configs whose types are classes. MMEngine only parses them: they name what they import."""

    @pytest.fixture
    def cfg(self, tmp_path):
        (tmp_path / 'pure.py').write_text(PURE)
        return Config.fromfile(tmp_path / 'pure.py')

    @pytest.mark.parametrize(
        'codec,head',
        [
            (dict(type='DARKCodec', input_size=(96, 128)), None),
            (dict(type=DARKCodec), dict(type='HeatmapHead')),
            (
                dict(type=SimCCCodec),
                dict(type=SimCCClassifierHead, loss=dict(type=SimCCKLLoss)),
            ),
        ],
    )
    def test_dumped_it_trains(self, cfg, tmp_path, codec, head):
        set_representation(cfg, codec, head)
        cfg.dump(tmp_path / 'dumped.py')
        again = Config.fromfile(tmp_path / 'dumped.py')
        check_config(again)
        # as a runner builds it
        with DefaultScope.overwrite_default_scope(again.get('default_scope', 'mmengine')):
            model = RUNNER_MODELS.build(again.model)
        assert type(model.head.decoder).__name__ == again.codec.type
        if head is None:
            assert again.model.head.loss.type.endswith('KeypointMSELoss')

    def test_without_a_dump(self, cfg):
        set_representation(cfg, dict(type='DARKCodec'))
        check_config(cfg)
        assert type(MODELS.build(cfg.model).head.decoder).__name__ == 'DARKCodec'

    def test_called_inside_of_one(self, tmp_path):
        path = tmp_path / 'calls.py'
        path.write_text(
            f'{PURE}\nfrom mmpose_simcc.config import set_representation\n'
            "set_representation(dict(model=model), dict(type='DARKCodec'))\n"
        )
        with pytest.raises(ValueError, match='pure-Python config cannot call a function'):
            load_config(str(path))


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


@functools.cache
def _stock(name):
    return Config.fromfile(Config._get_cfg_path(name, __file__)[0])


def stock(name):
    return copy.deepcopy(_stock(name))


def affines(cfg):
    return [
        affine.get('use_udp', False) for affine in dicts_of_type(cfg._cfg_dict, 'TopdownAffine')
    ]


class TestUdp:
    @pytest.mark.parametrize('codec', ['HeatmapCodec', 'DARKCodec', 'DAECCodec'])
    def test_is_taken_over(self, tmp_path, codec):
        cfg = load(UDP, tmp_path, f'codec=dict(type="{codec}")')
        check_one_codec_everywhere(cfg)
        assert cfg.codec.use_udp and all(affines(cfg))
        assert check_frames(cfg)
        assert cfg.model.type == 'ExactFlipPoseEstimator'
        assert cfg.model.test_cfg == stock(UDP).model.test_cfg  # that of stock's model type

    def test_from_the_pipeline_of_a_codec_without_cells(self):
        cfg = stock(REGRESSION)
        for affine in dicts_of_type(cfg._cfg_dict, 'TopdownAffine'):
            affine['use_udp'] = True
        set_representation(cfg, dict(type='DARKCodec', sigma=2), dict(type='HeatmapHead'))
        assert cfg.codec.use_udp and all(affines(cfg))

    @pytest.mark.parametrize('use_udp', [False, True])
    @pytest.mark.parametrize('base', [RES50, UDP, HALF_UDP])
    @pytest.mark.parametrize('codec, head', [('DARKCodec', None), ('SimCCCodec', SIMCC_HEAD)])
    def test_given_it_is_set_everywhere(self, base, use_udp, codec, head):
        cfg = stock(base)
        set_representation(cfg, dict(type=codec, use_udp=use_udp), head)
        assert set(affines(cfg)) == {use_udp}
        assert check_frames(cfg) == use_udp
        if cfg.model.test_cfg.flip_test and head is None:
            assert cfg.model.test_cfg.shift_heatmap != use_udp

    def test_a_base_that_contradicts_itself(self):
        with pytest.raises(ValueError, match='`codec.use_udp` must be given') as error:
            set_representation(stock(HALF_UDP), dict(type='DARKCodec'))
        assert 'UDPHeatmap and TopdownAffine(use_udp=False)' in str(error.value)

    @pytest.mark.parametrize('base, use_udp', [(UDP, True), (RES50, False), (HALF_UDP, False)])
    def test_simcc_has_the_frame_of_the_pipeline(self, base, use_udp):
        cfg = stock(base)
        set_representation(cfg, dict(type='SimCCCodec'), SIMCC_HEAD)
        assert set(affines(cfg)) == {use_udp}
        assert cfg.codec.get('use_udp', False) == use_udp == check_frames(cfg)
        again = cfg.copy()
        set_representation(again, dict(type='SimCCCodec', refine='dark'))
        assert again.codec.get('use_udp', False) == use_udp == check_frames(again)

    def test_offset_maps(self):
        for codec in ('DARKCodec', 'DAECCodec'):
            with pytest.raises(ValueError, match=f'offsets in two of three .* {codec} does not'):
                set_representation(stock(COMBINED), dict(type=codec))
        cfg = stock(COMBINED)
        set_representation(
            cfg, dict(type='DARKCodec'), dict(type='HeatmapHead', deconv_out_channels=None)
        )
        assert cfg.model.head.out_channels == 17
        assert cfg.codec.heatmap_size == (48, 64) and cfg.codec.use_udp
        assert 'loss' not in cfg.model.head  # not that of offsets
        assert outputs(cfg).shape == (1, 17, 64, 48)


class TestCheckFrames:
    def test_stock_configs(self):
        assert check_frames(stock(UDP)) and check_frames(stock(UDP)._cfg_dict)
        for base in (RES50, SIMCC, RTMPOSE, REGRESSION, MSPN, VISIBILITY, STALE):
            assert check_frames(stock(base)) is False

    @pytest.mark.parametrize(
        'base,changes,named',
        [
            (HALF_UDP, {}, 'decoder UDPHeatmap and TopdownAffine(use_udp=False)'),
            (
                UDP,
                {'model.head.decoder.type': 'DARKCodec'},
                'decoder DARKCodec(use_udp=False) and TopdownAffine(use_udp=True)',
            ),
            (
                RES50,
                {'model.head.decoder': dict(type='DAECCodec', use_udp=True)},
                'decoder DAECCodec(use_udp=True) and TopdownAffine(use_udp=False)',
            ),
            (
                VISIBILITY,
                {'model.head.pose_cfg.decoder.type': 'UDPHeatmap'},
                'decoder UDPHeatmap and TopdownAffine(use_udp=False)',
            ),
            (
                UDP,
                {'model.head.decoder.type': 'MSRAHeatmap'},
                'decoder MSRAHeatmap and TopdownAffine(use_udp=True)',
            ),
            (
                RES50,
                {'model.head.decoder': dict(type='SimCCCodec', use_udp=True)},
                'decoder SimCCCodec(use_udp=True) and TopdownAffine(use_udp=False)',
            ),
            (
                UDP,
                {'model.head.decoder.type': 'SimCCLabel'},
                'decoder SimCCLabel and TopdownAffine(use_udp=True)',
            ),
        ],
    )
    def test_names_both(self, base, changes, named):
        cfg = stock(base)
        cfg.merge_from_dict(changes)
        with pytest.raises(ValueError) as error:
            check_frames(cfg)
        assert named in str(error.value)
        assert len(str(error.value).splitlines()) == 1

    def test_encoder(self):
        cfg = stock(UDP)
        for target in dicts_of_type(cfg.train_dataloader, 'GenerateTarget'):
            target['encoder'] = dict(target['encoder'], type='MSRAHeatmap')
        with pytest.raises(ValueError, match='encoder MSRAHeatmap and TopdownAffine.use_udp=True'):
            check_frames(cfg)

    def test_pipelines(self):
        cfg = stock(UDP)
        for affine in dicts_of_type(cfg.test_dataloader, 'TopdownAffine'):
            affine['use_udp'] = False
        with pytest.raises(ValueError, match='the pipelines contradict each other'):
            check_frames(cfg)

    def test_tools_stop(self):
        """compare, calibrate and export_onnx read their configs so."""
        named = r'UDPHeatmap and TopdownAffine\(use_udp=False\)'
        with pytest.raises(CompareError, match=named) as error:
            read_config(HALF_UDP)
        assert str(error.value).startswith(f'config {HALF_UDP}: ')

    def test_the_right_decoder(self):
        cfg = stock(UDP)
        cfg.merge_from_dict(
            {'model.head.decoder.type': 'DARKCodec', 'model.head.decoder.use_udp': True}
        )
        assert check_frames(cfg)


class TestOtherHeads:
    @pytest.mark.parametrize('codec', ['DARKCodec', 'DAECCodec'])
    def test_regression_to_heatmaps(self, tmp_path, codec):
        cfg = load(
            REGRESSION,
            tmp_path,
            f'codec=dict(type="{codec}", sigma=2), head=dict(type="HeatmapHead")',
        )
        check_one_codec_everywhere(cfg)
        assert cfg.codec.heatmap_size == (48, 64)
        assert 'neck' not in cfg.model
        assert cfg.model.test_cfg == dict(flip_test=True, flip_mode='heatmap', shift_heatmap=True)
        assert outputs(cfg).shape == (1, 17, 64, 48)

    def test_regression_to_fewer_deconvolutions(self):
        cfg = stock(REGRESSION)
        head = dict(type='HeatmapHead', deconv_out_channels=(8,), deconv_kernel_sizes=(4,))
        set_representation(cfg, dict(type='DARKCodec', sigma=1), head)
        assert cfg.codec.heatmap_size == (12, 16)
        assert outputs(cfg).shape == (1, 17, 16, 12)

    def test_regression_to_simcc(self, tmp_path):
        cfg = load(
            REGRESSION,
            tmp_path,
            'codec=dict(type="SimCCCodec", input_size=(96, 128)), '
            'head=dict(type="SimCCClassifierHead")',
        )
        check_one_codec_everywhere(cfg)
        assert cfg.model.head.in_featuremap_size == (3, 4)
        assert 'neck' not in cfg.model
        assert cfg.model.test_cfg == dict(flip_test=True)
        x, y = outputs(cfg)
        assert x.shape == (1, 17, 192) and y.shape == (1, 17, 256)

    def test_integral_regression(self):
        """Its features have a size, but it has no SimCC head."""
        cfg = stock(INTEGRAL)
        with pytest.raises(ValueError, match='`head` must be given: DSNTHead does not fit'):
            set_representation(cfg, dict(type='SimCCCodec'))
        with pytest.raises(ValueError, match='`head` must be given: DSNTHead does not fit'):
            set_representation(cfg, dict(type='DARKCodec'))
        set_representation(cfg, dict(type='SimCCCodec'), SIMCC_HEAD)
        assert cfg.model.head.in_featuremap_size == (8, 8)
        assert cfg.model.test_cfg == dict(flip_test=True)
        assert outputs(cfg)[0].shape == (1, 17, 512)
        cfg = stock(INTEGRAL)
        set_representation(cfg, dict(type='DARKCodec'), dict(type='HeatmapHead'))
        assert cfg.codec.heatmap_size == (64, 64) and cfg.codec.sigma == 2
        assert outputs(cfg).shape == (1, 17, 64, 64)

    @pytest.mark.parametrize('backbone', STRIDE_32)
    def test_stride_of_backbones(self, backbone):
        """That it is 32 is what a pooling base does not say."""
        depth = {} if backbone.startswith(('Mobile', 'Shuffle')) else dict(depth=50)
        model = MODELS.build(dict(type=backbone, **depth))
        model.eval()
        with torch.no_grad():
            features = model(torch.zeros(1, 3, 128, 192))
        features = features if isinstance(features, tuple) else (features,)
        assert features[-1].shape[2:] == (4, 6)

    @pytest.mark.parametrize(
        'backbone',
        [
            dict(type='LiteHRNet', extra=None),
            dict(type='ResNet', depth=50, out_indices=(2,)),
            dict(type='ResNet', depth=50, strides=(1, 2, 2, 1)),
        ],
    )
    def test_features_that_are_not_known(self, backbone):
        cfg = stock(REGRESSION)
        cfg.model.backbone = backbone
        for codec, head in (
            (dict(type='SimCCCodec'), SIMCC_HEAD),
            (dict(type='DARKCodec', sigma=2), dict(type='HeatmapHead')),
        ):
            with pytest.raises(ValueError, match='`head.in_featuremap_size` must be given'):
                set_representation(copy.deepcopy(cfg), codec, head)
        set_representation(
            cfg, dict(type='SimCCCodec'), dict(**SIMCC_HEAD, in_featuremap_size=(12, 16))
        )
        assert cfg.model.head.in_featuremap_size == (12, 16)

    def test_sigma_of_a_base_without_cells(self):
        for base in (REGRESSION, SIMCC, RTMPOSE):
            with pytest.raises(ValueError, match='`codec.sigma` must be given'):
                set_representation(stock(base), dict(type='DARKCodec'), dict(type='HeatmapHead'))

    def test_visibility_head(self, tmp_path):
        cfg = load(VISIBILITY, tmp_path, 'codec=dict(type="DARKCodec", unbiased=False)')
        before = stock(VISIBILITY).model.head
        assert cfg.model.head.type == 'VisPredictHead' and cfg.model.head.loss == before.loss
        assert cfg.model.head.pose_cfg.decoder.type == 'DARKCodec'
        assert cfg.model.head.pose_cfg.in_channels == before.pose_cfg.in_channels
        cfg = stock(VISIBILITY)
        set_representation(cfg, dict(type='SimCCCodec'), SIMCC_HEAD)
        assert cfg.model.head.pose_cfg.type == 'SimCCClassifierHead'
        (x, y), visible = outputs(cfg)
        assert x.shape == (1, 17, 384) and visible.shape == (1, 17)

    def test_a_codec_for_every_unit(self):
        for codec in ('DARKCodec', 'SimCCCodec'):
            with pytest.raises(ValueError, match='MSPNHead cannot be swapped: it supervises'):
                set_representation(stock(MSPN), dict(type=codec), SIMCC_HEAD)

    def test_features_without_a_whole_stride(self):
        cfg = stock(ALEXNET)
        set_representation(cfg, dict(type='SimCCCodec'), SIMCC_HEAD)
        assert cfg.model.head.in_featuremap_size == (5, 7)
        assert outputs(cfg)[0].shape == (1, 17, 384)
        larger = dict(input_size=(288, 384))
        with pytest.raises(ValueError, match=r'`head.in_featuremap_size` must be given: \(5, 7\)'):
            set_representation(stock(ALEXNET), dict(type='SimCCCodec', **larger), SIMCC_HEAD)
        with pytest.raises(ValueError, match=r'`codec.heatmap_size` must be given: \(40, 56\)'):
            set_representation(stock(ALEXNET), dict(type='DARKCodec', **larger))

    def test_keypoint_tokens(self):
        cfg = stock(RES50)
        tokens = dict(**SIMCC_HEAD, in_featuremap_size=None)
        set_representation(cfg, dict(type='SimCCCodec'), tokens)
        set_representation(cfg, dict(type='SimCCCodec', input_size=(96, 128)))
        assert cfg.model.head.in_featuremap_size is None


def labels(codec, keypoints, visible):
    encoded = KEYPOINT_CODECS.build(codec).encode(keypoints, visible)
    return [encoded[f'keypoint_{name}'] for name in ('x_labels', 'y_labels', 'weights')]


class TestSimCCOfMMPose:
    """Heads, losses and labels stay what they are in the base."""

    @pytest.fixture(params=[SIMCC, RTMPOSE, RTMW], ids=['SimCC', 'RTMPose', 'RTMW'])
    def swapped(self, request):
        base, cfg = stock(request.param), stock(request.param)
        set_representation(cfg, dict(type='SimCCCodec'))
        return base, cfg

    def test_head_and_loss_stay(self, swapped):
        base, cfg = swapped
        assert cfg.model.head.loss == base.model.head.loss
        for name in base.model.head.keys() - {'decoder'}:
            assert cfg.model.head[name] == base.model.head[name], name
        for name in ('beta', 'label_softmax', 'label_beta'):
            assert cfg.codec.get(name) == base.model.head.loss.get(name)
        assert cfg.codec.get('normalize', True) == base.codec.get('normalize', True)

    def test_same_labels_and_loss(self, swapped):
        base, cfg = swapped
        rng = np.random.RandomState(0)
        K = base.model.head.out_channels
        # on bins, to which stock rounds
        keypoints = (rng.randint(10, 360, (4, K, 2)) / 2).astype(np.float32)
        visible = np.ones((4, K), dtype=np.float32)
        visible[:, 3] = 0
        ours, theirs = (labels(codec, keypoints, visible) for codec in (cfg.codec, base.codec))
        for mine, other in zip(ours, theirs):
            np.testing.assert_allclose(mine, other, atol=1e-6)
        pred = [torch.randn(label.shape) for label in theirs[:2]]
        losses = [
            MODELS.build(c.model.head.loss)(
                pred, [torch.tensor(label) for label in encoded[:2]], torch.tensor(encoded[2])
            )
            for c, encoded in ((cfg, ours), (base, theirs))
        ]
        assert losses[0] > 0
        torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-5)

    def test_renamed_loss(self, swapped):
        """With ``reduction='stock'`` this package's loss is MMPose's."""
        base, cfg = swapped
        shape = (4, base.model.head.out_channels, 384)
        pred, target = [torch.randn(shape)] * 2, [torch.rand(shape).softmax(-1)] * 2
        weights = torch.rand(shape[:2])
        ours = MODELS.build(dict(cfg.model.head.loss, type='SimCCKLLoss', reduction='stock'))(
            pred, target, weights
        )
        theirs = MODELS.build(base.model.head.loss)(pred, target, weights)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)

    def test_perfect_outputs(self, swapped):
        """The least loss that logits can have scores one, the labels' bins
        decoded."""
        base, cfg = swapped
        codec = KEYPOINT_CODECS.build(cfg.codec)
        keypoints = np.array([[[60.0, 70.0], [100.5, 130.25]]], dtype=np.float32)
        x, y, _ = labels(base.codec, keypoints, np.ones((1, 2), np.float32))
        loss = base.model.head.loss
        if loss.get('label_softmax'):
            # softmax(beta * logits) is softmax(label_beta * label)
            logits = [label * loss.get('label_beta', 10) / loss.get('beta', 1) for label in (x, y)]
        else:
            logits = [np.log(np.maximum(label, 1e-30)) for label in (x, y)]
        decoded, scores = codec.decode(*(each[0] for each in logits))
        assert scores.min() >= 0.9 and scores.max() <= 1
        np.testing.assert_allclose(decoded[0], keypoints[0], atol=0.5)
        # nothing is known: no score
        flat = [np.zeros_like(each[0]) for each in logits]
        assert codec.decode(*flat)[1].max() < 0.2

    def test_standard_smoothing(self):
        for smoothing, expected in (
            (0.0, dict(label_smoothing='none')),
            (0.2, dict(label_smoothing='equal', smoothing=0.2)),
        ):
            cfg = stock(SIMCC)
            for codec in (cfg.codec, cfg.model.head.decoder):
                codec.update(smoothing_type='standard', label_smooth_weight=smoothing)
            base = copy.deepcopy(cfg.codec)
            set_representation(cfg, dict(type='SimCCCodec'))
            assert {name: cfg.codec[name] for name in expected} == expected
            keypoints = np.random.RandomState(0).uniform(5, 180, (2, 17, 2)).astype(np.float32)
            visible = np.ones((2, 17), dtype=np.float32)
            for mine, other in zip(
                labels(cfg.codec, keypoints, visible), labels(base, keypoints, visible)
            ):
                np.testing.assert_allclose(mine, other, atol=1e-6)

    def test_dark(self):
        cfg = stock(SIMCC)
        cfg.model.head.decoder.use_dark = True
        set_representation(cfg, dict(type='SimCCCodec'))
        assert cfg.codec.refine == 'dark'

    def test_another_head_has_its_own_loss(self):
        """And labels for it: RTMPose's, of a peak of 1, are for a softmax."""
        cfg = stock(RTMPOSE)
        set_representation(cfg, dict(type='SimCCCodec'), SIMCC_HEAD)
        assert 'loss' not in cfg.model.head
        assert not {'normalize', 'beta', 'label_softmax', 'label_beta'} & set(cfg.codec)
        assert cfg.codec.sigma == (4.9, 5.66)
        cfg = stock(SIMCC)
        softened = dict(type='SimCCKLLoss', reduction='mean', beta=5.0, label_softmax=True)
        set_representation(cfg, dict(type='SimCCCodec'), dict(**SIMCC_HEAD, loss=softened))
        assert cfg.codec.beta == 5 and cfg.codec.label_softmax and not cfg.codec.normalize

    def test_labels_of_a_peak_of_1_without_a_softmax(self):
        cfg = stock(SIMCC)
        cfg.codec.normalize = cfg.model.head.decoder.normalize = False
        set_representation(cfg, dict(type='SimCCCodec'))
        assert cfg.codec.normalize is False and cfg.codec.label_softmax is False

    def test_a_codec_that_contradicts_the_loss(self):
        with pytest.raises(ValueError, match='`codec.beta` must be 10.0, that of the head'):
            set_representation(stock(RTMPOSE), dict(type='SimCCCodec', beta=1.0))
