# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Configs whose parts do not belong together are refused before a training."""

import copy
import functools
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import Runner

from mmpose_simcc import ConfigCheckHook
from mmpose_simcc.config import check_config, set_representation
from mmpose_simcc.utils.configs import dicts_of_type
from mmpose_simcc.workbench.toy import make_toy_coco

COCO = 'mmpose::body_2d_keypoint/{}/coco/{}.py'
RES50 = COCO.format('topdown_heatmap', 'td-hm_res50_8xb64-210e_coco-256x192')
SIMCC = COCO.format('simcc', 'simcc_res50_8xb64-210e_coco-256x192')
COMBINED = COCO.format('topdown_heatmap', 'td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192')
REGRESSION = COCO.format('topdown_regression', 'td-reg_res50_8xb64-210e_coco-256x192')
INTEGRAL = COCO.format('integral_regression', 'ipr_res50_8xb64-210e_coco-256x256')
VISIBILITY = COCO.format('topdown_heatmap', 'td-hm-vis_res50_8xb64-210e_coco-aic-256x192-merge')
RTMPOSE = 'mmpose::body_2d_keypoint/rtmpose/body8/rtmpose-t_8xb256-420e_body8-256x192.py'
FACES = 'mmpose::face_2d_keypoint/topdown_heatmap/300w/td-hm_hrnetv2-w18_8xb64-60e_300w-256x256.py'
TOKENS = 'body_2d_keypoint/tokenpose/coco/td-hm_tokenpose-s_8xb64-300e_coco-64x64.py'


@functools.cache
def _stock(name):
    return get_config(name)


def stock(name):
    return copy.deepcopy(_stock(name))


def refused(cfg, line):
    with pytest.raises(ValueError) as error:
        check_config(cfg)
    assert re.search(line, str(error.value)), error.value
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('name', [RES50, SIMCC, REGRESSION, INTEGRAL, VISIBILITY])
def test_stock_configs_agree(name):
    check_config(stock(name))


def test_of_dicts_and_of_what_is_there():
    check_config({})
    cfg = stock(RES50)
    check_config(cfg._cfg_dict)
    check_config(dict(model=cfg.model))


def test_random_numbers_stay():
    """Those of a training that begins after it."""
    before = torch.get_rng_state()
    check_config(stock(RES50))
    assert torch.equal(torch.get_rng_state(), before)


class TestKeypoints:
    def test_head(self):
        cfg = stock(RES50)
        cfg.model.head.out_channels = 16
        refused(cfg, 'out_channels` must be 17, the number of keypoints of CocoDataset in `train')

    def test_offset_maps(self):
        cfg = stock(COMBINED)
        cfg.model.head.out_channels = 48
        refused(cfg, '`model.head.out_channels` must be 51, .* times 3, but got 48')

    def test_regression(self):
        cfg = stock(REGRESSION)
        cfg.model.head.num_joints = 21
        refused(cfg, '`model.head.num_joints` must be 17')

    def test_test_data(self):
        cfg = stock(RES50)
        cfg.test_dataloader = stock(FACES).test_dataloader
        refused(cfg, 'must be 68, .* Face300WDataset in `test_dataloader`')

    def test_metainfo_of_the_config(self, tmp_path):
        cfg = stock(RES50)
        cfg.train_dataloader.dataset.metainfo = metainfo(left='right', right='left')
        refused(cfg, 'must be 2, the number of keypoints of CocoDataset in `train_dataloader`')
        cfg.train_dataloader.dataset.metainfo = dict(from_file=str(tmp_path / 'none.py'))
        refused(cfg, 'metainfo of CocoDataset in `train_dataloader` cannot be read: FileNotFound')

    def test_metainfo_that_does_not_count_from_0(self):
        """Taken for places in the annotations, 7 to 8 of 2 keypoints scored an AP of 0."""
        cfg = stock(RES50)
        read = metainfo(left='right', right='left')
        info = dict(zip((7, 8), read['keypoint_info'].values()))
        cfg.train_dataloader.dataset.metainfo = dict(read, keypoint_info=info)
        refused(cfg, 'keypoints 7, 8, ...: the keys of `keypoint_info` have to be 0, 1, ..., 1')

    def test_metainfo_without_a_part(self):
        cfg = stock(RES50)
        read = metainfo(left='right', right='left')
        del read['joint_weights']
        cfg.train_dataloader.dataset.metainfo = read
        refused(cfg, "`train_dataloader` cannot be read: AssertionError: assert 'joint_weights' in")

    def test_pairs_that_swap_one_way(self, caplog):
        cfg = stock(RES50)
        cfg.train_dataloader.dataset.metainfo = metainfo(left='right', right='')
        refused(cfg, 'must be 2, the number of keypoints')
        assert "swaps 'left' with 'right' in mirrored pictures, but 'right' with" in caplog.text

    def test_on_a_part_of_the_keypoints(self):
        cfg = stock(RES50)
        for loader in (cfg.val_dataloader, cfg.test_dataloader):
            loader.dataset.type = 'Face300WDataset'
        cfg.val_evaluator = dict(cfg.val_evaluator, pred_converter=dict(type='KeypointConverter'))
        refused(cfg, 'must be 68, .* in `test_dataloader`')
        cfg.model.test_cfg.output_keypoint_indices = list(range(17))
        check_config(cfg)

    def test_combined_and_converted(self):
        cfg = stock(RTMPOSE)
        conversion = next(dicts_of_type(cfg.train_dataloader, 'KeypointConverter'))
        conversion['num_keypoints'] += 1
        refused(cfg, f'must be {conversion["num_keypoints"]}, the number of keypoints of ')

    def test_tokens(self, repo_root):
        cfg = Config.fromfile(repo_root / 'configs' / TOKENS)
        check_config(cfg)
        cfg.model.backbone.num_keypoints = 16
        refused(cfg, '`model.backbone.num_keypoints` must be 17, that of the head, but got 16')
        cfg.model.backbone.num_keypoints = 17
        cfg.model.backbone.input_size = (128, 128)
        refused(cfg, r'`model.backbone.input_size` must be \(64, 64\)')


def metainfo(**swaps):
    """Two keypoints, left and right, and what each swaps with."""
    return dict(
        dataset_name='two',
        keypoint_info={
            i: dict(name=name, swap=swap) for i, (name, swap) in enumerate(swaps.items())
        },
        skeleton_info={},
        joint_weights=[1.0, 1.0],
        sigmas=[0.1, 0.1],
    )


class TestCodecs:
    def test_labels_of_another_split(self):
        cfg = stock(SIMCC)
        cfg.model.head.decoder.simcc_split_ratio = cfg.model.head.simcc_split_ratio = 3.0
        refused(cfg, 'labels with simcc_split_ratio=2.0, but the decoder has simcc_split_ratio=3')

    def test_head_of_another_split(self):
        cfg = stock(SIMCC)
        cfg.model.head.simcc_split_ratio = 3.0
        refused(cfg, "`head.simcc_split_ratio` must be the decoder's, 2.0, but got 3.0")

    def test_labels_of_another_size(self):
        cfg = stock(RES50)
        for target in dicts_of_type(cfg._cfg_dict, 'GenerateTarget'):
            target['encoder'] = dict(target['encoder'], heatmap_size=(24, 32))
        refused(cfg, r'labels with heatmap_size=\(24, 32\), but the decoder has .*\(48, 64\)')

    def test_labels_of_another_kind(self):
        cfg = stock(RES50)
        for target in dicts_of_type(cfg._cfg_dict, 'GenerateTarget'):
            target['encoder'] = dict(type='SimCCCodec', input_size=(192, 256))
        refused(cfg, 'labels by SimCCCodec, which the decoder MSRAHeatmap does not read')

    def test_crops_of_another_size(self):
        cfg = stock(RES50)
        for affine in dicts_of_type(cfg.test_dataloader, 'TopdownAffine'):
            affine['input_size'] = (288, 384)
        refused(cfg, r'TopdownAffine\(input_size=\(288, 384\)\), but the decoder .*\(192, 256\)')

    @pytest.mark.parametrize(
        'name,codec',
        [
            (RES50, dict(type='SimCCCodec', input_size=(192, 256))),
            (REGRESSION, dict(type='SimCCCodec', input_size=(192, 256))),
            (SIMCC, dict(type='DARKCodec', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)),
        ],
    )
    def test_head_of_another_kind(self, name, codec):
        cfg = stock(name)
        head_type = cfg.model.head.type
        cfg.model.head.decoder = codec
        refused(cfg, f"`head.type` must be one for {codec['type']} .*, but got '{head_type}'")

    def test_frames(self):
        cfg = stock(RES50)
        for affine in dicts_of_type(cfg._cfg_dict, 'TopdownAffine'):
            affine['use_udp'] = True
        refused(cfg, 'contradict')


class TestOutputs:
    def test_size_of_maps(self):
        """A ResNet rounds 4.5 cells of its last stage up: 40 after three deconvolutions."""
        cfg = stock(RES50)
        for codec in (*dicts_of_type(cfg._cfg_dict, 'MSRAHeatmap'),):
            codec.update(input_size=(144, 192), heatmap_size=(36, 48))
        for affine in dicts_of_type(cfg._cfg_dict, 'TopdownAffine'):
            affine['input_size'] = (144, 192)
        refused(cfg, r'heatmaps of \(40, 48\) cells .* 144x192 pixels, .*heatmap_size=\(36, 48\)')

    def test_features_of_another_size(self):
        cfg = stock(SIMCC)
        cfg.model.head.in_featuremap_size = (4, 4)
        refused(cfg, 'does not take pictures of 192x256 pixels')

    def test_model_that_cannot_be_built(self):
        cfg = stock(RES50)
        cfg.model.backbone.depth = 51
        refused(cfg, 'the model cannot be built: .*51')

    def test_swapped_config(self):
        cfg = stock(RES50)
        set_representation(cfg, dict(type='SimCCCodec'), dict(type='SimCCClassifierHead'))
        check_config(cfg)
        cfg.model.head.in_featuremap_size = (12, 16)
        refused(cfg, 'does not take pictures')


class TestHook:
    """In MMPose's own tools."""

    @pytest.fixture
    def runner(self, tmp_path):
        cfg = stock(RES50)
        cfg.model.backbone.update(depth=18, init_cfg=None)
        cfg.model.head.in_channels = 512
        set_representation(cfg, dict(type='DARKCodec', input_size=(64, 64)))
        cfg.default_hooks.pop('visualization')
        return Runner(
            model=cfg.model,
            work_dir=str(tmp_path),
            experiment_name=tmp_path.name,
            default_hooks=cfg.default_hooks,
            default_scope=cfg.default_scope,
            log_level='ERROR',
            cfg=cfg,
        )

    def test_training_of_a_config_that_disagrees(self, runner):
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, ConfigCheckHook))
        hook.before_train(runner)
        runner.cfg.model.head.out_channels = 16
        with pytest.raises(ValueError, match='out_channels` must be 17'):
            hook.before_train(runner)

    @pytest.fixture
    def validated(self, tmp_path, repo_root):
        """A runner with drawn people to validate on."""
        make_toy_coco(tmp_path / 'toy', train=1, val=5, seed=1, workers=1)
        folder = repo_root / 'configs/body_2d_keypoint/topdown_heatmap/toy_coco'
        cfg = Config.fromfile(next(folder.glob('*res18_1xb8-4e*')))
        cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
        cfg.val_dataloader.dataset.data_root = str(tmp_path / 'toy')
        cfg.val_evaluator.ann_file = f'{tmp_path}/toy/{cfg.val_dataloader.dataset.ann_file}'
        return lambda: Runner(
            model=cfg.model,
            work_dir=str(tmp_path),
            experiment_name=tmp_path.name,
            val_dataloader=cfg.val_dataloader,
            val_evaluator=cfg.val_evaluator,
            val_cfg=dict(),
            default_scope=cfg.default_scope,
            log_level='ERROR',
            cfg=cfg,
        )

    def test_validation_before_the_training(self, validated, capsys):
        """It leaves metrics and random numbers as they were."""
        runner = validated()
        state = torch.get_rng_state()
        ConfigCheckHook().before_train(runner)
        assert torch.equal(torch.get_rng_state(), state)
        assert runner.model.training and 'Average Precision' not in capsys.readouterr().out
        (metric,) = runner.val_loop.evaluator.metrics
        assert metric.results == []
        metric.coco.anns[next(iter(metric.coco.anns))].pop('area')
        with pytest.raises(ValueError, match='the validation would fail: .*area'):
            ConfigCheckHook().before_train(runner)
        metric.iou_type, metric.use_area = 'keypoints_crowd', False
        with pytest.raises(ValueError, match='the validation would fail: .*crowdIndex'):
            ConfigCheckHook().before_train(runner)
        for annotation in metric.coco.anns.values():
            del annotation['num_keypoints']
        with pytest.raises(ValueError, match='the validation would fail: .*num_keypoints'):
            ConfigCheckHook().before_train(runner)

    @pytest.mark.parametrize('use_udp', [True, False])
    def test_published_weights(self, runner, tmp_path, use_udp):
        """As `mim test CONFIG --checkpoint CHECKPOINT` loads them."""
        meta = dict(converted_from='HRNet-W32, heatmap', use_udp=use_udp)
        checkpoint = dict(meta=meta, state_dict=runner.model.state_dict())
        torch.save(checkpoint, tmp_path / 'weights.pth')
        if use_udp:
            with pytest.raises(ValueError, match='need TopdownAffine.use_udp=True.*docs/weights'):
                runner.load_checkpoint(str(tmp_path / 'weights.pth'))
        else:
            runner.load_checkpoint(str(tmp_path / 'weights.pth'))
