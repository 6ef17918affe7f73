# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Every config: parses, agrees with its name, and builds the paper's size."""

import copy
import functools
import json
import re
from pathlib import Path

import mmpose
import numpy as np
import pytest
import torch
from conftest import ROOT, torch_threads
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpose.registry import MODELS, TRANSFORMS
from modelindex.load_model_index import load as load_model_index
from scipy.io import savemat

from mmpose_simcc.config import check_config, use_published_recipe
from mmpose_simcc.utils.configs import dicts_of_type

CONFIGS = {path.stem: path for path in sorted((ROOT / 'configs').glob('*_2d_keypoint/**/*.py'))}
NAME = re.compile(
    r'(?P<algorithm>[a-z0-9-]+)_(?P<arch>[a-z0-9-]+)_(?:(?P<setting>[a-z-]+)-)?'
    r'(?P<gpus>\d+)xb(?P<batch>\d+)-(?P<epochs>\d+)e_'
    r'(?P<dataset>[a-z0-9-]+)-(?P<h>\d+)x(?P<w>\d+)'
)
DATASETS = {
    'coco': 'CocoDataset',
    'toy-coco': 'CocoDataset',
    'mpii': 'MpiiDataset',
    'crowdpose': 'CrowdPoseDataset',
    'lspet': 'CocoDataset',
    '300w': 'Face300WDataset',
}
HEATMAPS = dict(quarter='HeatmapCodec', dark='DARKCodec', daec='DAECCodec')
SMOOTHINGS = {'no-smoothing': 'none', 'gaussian': 'gaussian', 'laplace': 'laplace'}

# Million parameters, from the papers' tables (SimCC Tables 1, 3 and 4; for
# ResNet-101, ResNet-152 and HRNet-W32 heatmaps HRNet's Table 1) and, with
# three decimals, from the published models.
PARAMETERS = {
    'td-hm_res50_quarter-8xb64-210e_coco-64x64': 34.00,
    'td-hm_res50_quarter-8xb64-210e_coco-128x128': 34.00,
    'td-hm_res50_quarter-8xb64-210e_coco-256x192': 34.00,
    'td-hm_res50_quarter-8xb64-210e_coco-256x256': 34.0,
    'td-hm_res50_quarter-8xb64-210e_coco-384x288': 34.00,
    'td-hm_res101_quarter-8xb64-210e_coco-256x192': 53.0,
    'td-hm_res152_quarter-8xb32-210e_coco-256x192': 68.6,
    'td-hm_hrnet-w32_quarter-8xb64-210e_coco-256x192': 28.5,
    'td-hm_hrnet-w48_quarter-8xb32-210e_coco-64x64': 63.6,
    'td-hm_hrnet-w48_quarter-8xb32-210e_coco-128x128': 63.6,
    'td-hm_hrnet-w48_quarter-8xb32-210e_coco-256x192': 63.6,
    'td-hm_hrnet-w48_quarter-8xb32-210e_coco-384x288': 63.6,
    'simcc_res50_upfree-8xb64-210e_coco-64x64': 24.672,
    'simcc_res50_upfree-8xb64-210e_coco-128x128': 25.017,
    'simcc_res50_upfree-8xb64-210e_coco-256x192': 25.688,
    'simcc_res50_upfree-8xb64-210e_coco-256x256': 26.3,
    'simcc_res50_deconv-8xb64-210e_coco-64x64': 34.098,
    'simcc_res50_deconv-8xb64-210e_coco-128x128': 34.8,
    'simcc_res50_deconv-8xb64-210e_coco-256x192': 36.753,
    'simcc_res50_deconv-8xb64-210e_coco-384x288': 43.291,
    'simcc_res50_deconv-gaussian-8xb64-210e_coco-384x288': 43.291,
    'simcc_hrnet-w32_8xb64-210e_coco-128x128': 29.061,
    'simcc_hrnet-w32_8xb64-210e_coco-256x192': 31.290,
    'simcc_hrnet-w48_8xb32-210e_coco-64x64': 63.694,
    'simcc_hrnet-w48_8xb32-210e_coco-128x128': 64.1,
    'simcc_hrnet-w48_8xb32-210e_coco-256x192': 66.349,
    'simcc_hrnet-w48_8xb32-210e_coco-384x288': 70.564,
    'simcc_hrnet-w48_gaussian-8xb32-210e_coco-256x192': 66.349,
    'simcc_hrnet-w48_gaussian-8xb32-210e_coco-384x288': 70.564,
    'td-hm_tokenpose-s_8xb64-300e_coco-64x64': 4.9,
    'td-hm_tokenpose-s_8xb64-300e_coco-128x128': 5.2,
    'td-hm_tokenpose-s_8xb64-300e_coco-256x192': 6.6,
    'simcc_tokenpose-s_8xb64-300e_coco-64x64': 4.9,
    'simcc_tokenpose-s_8xb64-300e_coco-128x128': 5.1,
    'simcc_tokenpose-s_8xb64-300e_coco-256x192': 5.5,
    'td-hm_tokenpose-s-v2_8xb64-300e_coco-256x192': 6.2,
    'td-hm_tokenpose-b_8xb64-300e_coco-256x192': 13.5,
    'td-hm_tokenpose-t_8xb64-300e_coco-256x192': 5.816,
    'td-hm_tokenpose-l-d24_8xb64-300e_coco-256x192': 27.482,
    'td-hm_tokenpose-l-d24_8xb64-300e_coco-384x288': 29.809,
}


@functools.cache
def load(name):
    return Config.fromfile(CONFIGS[name])


@functools.cache
def stock_names():
    folder = Path(mmpose.__file__).parent / '.mim' / 'configs'
    return {path.stem for path in folder.rglob('*.py')}


def skip_without_its_backbone(name):
    package = load(name).model.backbone.type.rpartition('.')[0]
    if package:
        pytest.importorskip(package)


@functools.cache
def _build(model):
    init_default_scope('mmpose')
    with torch.device('meta'):
        return MODELS.build(json.loads(model)).eval()


def build(name):
    """The model without storage, for its shapes. Configs whose codecs do not
    change the model share it."""
    model = load(name).model.to_dict()
    decoder = model['head'].pop('decoder')
    if decoder['type'] == 'SimCCCodec':
        model['head']['decoder'] = {
            key: decoder[key]
            for key in ('type', 'input_size', 'simcc_split_ratio', 'score')
            if key in decoder
        }
    return _build(json.dumps(model))


def count_parameters(name):
    return sum(p.numel() for p in build(name).parameters())


@functools.cache
def listed_parameters():
    index = load_model_index(str(ROOT / 'model-index.yml'))
    return {model.name: model.metadata.parameters for model in index.models}


@pytest.mark.parametrize('name', CONFIGS)
class TestEveryConfig:
    def test_agrees_with_its_name(self, name):
        cfg, codec = load(name), load(name).codec
        says = NAME.fullmatch(name)
        assert says, f'{name} does not follow the naming scheme'
        assert codec.input_size == (int(says['w']), int(says['h']))
        assert cfg.train_cfg.max_epochs == int(says['epochs'])
        assert cfg.param_scheduler[-1].end == int(says['epochs'])
        assert cfg.dataset_type == DATASETS[says['dataset']]
        gpus, batch = int(says['gpus']), int(says['batch'])
        assert cfg.train_dataloader.batch_size == batch
        assert cfg.auto_scale_lr.base_batch_size == gpus * batch
        setting = says['setting'] or ''
        if says['algorithm'] == 'simcc':
            assert codec.type == 'SimCCCodec'
            assert bool(cfg.model.head.get('deconv_out_channels')) == ('deconv' in setting)
            for word, smoothing in SMOOTHINGS.items():
                if word in setting:
                    assert codec.label_smoothing == smoothing
        elif says['algorithm'] == 'td-hm':
            kind = setting.split('-')[0]
            own = 'DARKCodec' if 'tokenpose' in name else 'HeatmapCodec'
            assert codec.type == HEATMAPS.get(kind, own)
            assert codec.get('use_udp', False) == ('udp' in setting or 'tokenpose' in name)

    def test_has_no_stock_name(self, name):
        """Work folders and checkpoints are named by the file."""
        assert name not in stock_names()

    def test_one_codec_everywhere(self, name):
        cfg = load(name)._cfg_dict
        for node in (cfg.codec, cfg.model.head.decoder):
            node.pop('_scope_', None)  # MMEngine's mark of an inherited one
        assert cfg.model.head.decoder == cfg.codec
        encoders = [t.encoder for t in dicts_of_type(cfg, 'GenerateTarget')]
        for encoder in encoders:
            encoder.pop('_scope_', None)
        assert encoders and all(e == cfg.codec for e in encoders)
        sizes = [t.input_size for t in dicts_of_type(cfg, 'TopdownAffine')]
        assert sizes and all(s == cfg.codec.input_size for s in sizes)

    def test_runs_in_mmpose(self, name):
        cfg = load(name)
        assert cfg.default_scope == 'mmpose'
        assert 'mmpose_simcc' in cfg.custom_imports.imports

    @pytest.mark.slow
    def test_its_parts_agree(self, name):
        skip_without_its_backbone(name)
        check_config(load(name))

    @pytest.mark.slow
    def test_model_index_tells_its_parameters(self, name):
        skip_without_its_backbone(name)
        if CONFIGS[name].parent.name == 'toy_coco':
            pytest.skip('not in the model index')
        assert listed_parameters()[name] == count_parameters(name)


@pytest.mark.parametrize(
    'name',
    [
        'simcc_res18_1xb8-4e_toy-coco-64x64',
        'td-hm_tokenpose-s_8xb64-300e_coco-64x64',
        'heatmap1d_res50_8xb64-210e_coco-256x256',
        'ipr_res101_8xb64-210e_coco-256x256',
    ],
)
def test_parts_of_one_of_each_kind_agree(name):
    check_config(load(name))


@pytest.mark.slow
@pytest.mark.parametrize('name, millions', PARAMETERS.items())
def test_parameters_are_the_papers(name, millions):
    assert count_parameters(name) / 1e6 == pytest.approx(millions, abs=0.06)


def test_published_settings():
    """Of the published experiments of SimCC and TokenPose."""
    for name, settings in (
        ('simcc_res50_deconv-gaussian-8xb64-210e_coco-384x288', dict(simcc_split_ratio=2, sigma=6)),
        ('simcc_hrnet-w48_gaussian-8xb32-210e_coco-256x192', dict(simcc_split_ratio=2, sigma=4)),
        ('simcc_hrnet-w48_gaussian-8xb32-210e_coco-384x288', dict(simcc_split_ratio=1.5, sigma=4)),
        ('simcc_hrnet-w32_gaussian-8xb64-210e_mpii-256x256', dict(simcc_split_ratio=2, sigma=6)),
        ('simcc_hrnet-w32_8xb64-210e_mpii-256x256', dict(simcc_split_ratio=2, smoothing=0.2)),
        ('td-hm_hrnet-w48_quarter-8xb32-210e_coco-64x64', dict(sigma=1)),
        ('td-hm_hrnet-w32_dark-udp-8xb64-210e_coco-128x96', dict(sigma=1)),
        ('td-hm_hrnet-w32_dark-udp-8xb64-210e_coco-384x288', dict(sigma=3)),
    ):
        codec = load(name).codec
        assert {key: codec[key] for key in settings} == settings, name

    # a config that inherits the schedule
    cfg = load('simcc_tokenpose-s_8xb64-300e_coco-64x64')
    assert cfg.param_scheduler[-1].milestones == [200, 260]
    assert cfg.optim_wrapper.optimizer.lr == 1e-3


# What the published experiments of SimCC and TokenPose say: epochs, steps, rotation, scale, half
# bodies, label smoothing (None: not equal) and reduction of the loss (None: heatmaps).
RESNET = (140, [90, 120], 40, 0.3, None)
HRNET = (210, [170, 200], 45, 0.35, 0.3)
MPII = (210, [170, 200], 30, 0.25, None)
RECIPES = {
    # SimCC, Table 1
    'td-hm_res50_quarter-8xb64-210e_coco-64x64': (*RESNET, None, None),
    'simcc_res50_upfree-8xb64-210e_coco-64x64': (*RESNET, 0.1, 'mean'),
    'simcc_res50_upfree-8xb64-210e_coco-256x192': (*RESNET, 0.1, 'mean'),
    'simcc_res50_deconv-8xb64-210e_coco-256x192': (*RESNET, 0.1, 'mean'),
    'td-hm_hrnet-w48_quarter-8xb32-210e_coco-256x192': (*HRNET, None, None),
    'simcc_hrnet-w48_8xb32-210e_coco-64x64': (*HRNET, 0.1, 'mean'),
    'simcc_hrnet-w48_8xb32-210e_coco-256x192': (*HRNET, 0.1, 'mean'),
    'simcc_tokenpose-s_8xb64-300e_coco-256x192': (*HRNET, 0.1, 'mean'),
    # other sizes and smoothings
    'simcc_hrnet-w32_8xb64-210e_coco-128x128': (*HRNET, 0.2, 'mean'),
    'simcc_hrnet-w32_8xb64-210e_coco-256x192': (*HRNET, 0.1, 'mean'),
    'simcc_hrnet-w48_gaussian-8xb32-210e_coco-256x192': (*HRNET, None, 'stock'),
    'simcc_res101_deconv-8xb64-210e_coco-128x128': (*RESNET, 0.2, 'mean'),
    'simcc_res101_deconv-8xb64-210e_coco-256x192': (*RESNET, 0.4, 'mean'),
    'simcc_res101_deconv-8xb32-210e_coco-384x288': (*RESNET, 0.1, 'stock'),
    'simcc_res101_upfree-8xb64-210e_coco-256x192': (*RESNET, 0.1, 'mean'),
    'simcc_res152_deconv-8xb32-210e_coco-384x288': (*RESNET, 0.1, 'stock'),
    'simcc_hrnet-w32_8xb64-210e_mpii-64x64': (*MPII, 0.2, 'stock'),
    'simcc_hrnet-w32_gaussian-8xb64-210e_mpii-256x256': (*MPII, None, 'stock'),
    'simcc_hrnet-w32_8xb64-210e_crowdpose-64x64': (*HRNET, 0.1, 'mean'),
    'td-hm_tokenpose-b_8xb64-300e_coco-256x192': (300, [200, 260], 45, 0.35, 0.3, None, None),
}


class TestPublishedRecipe:
    @pytest.mark.parametrize('name, expected', RECIPES.items())
    def test_is_that_of_the_experiment(self, name, expected):
        epochs, steps, rotation, scale, half_body, smoothing, reduction = expected
        cfg = copy.deepcopy(load(name))
        use_published_recipe(cfg)
        assert cfg.train_cfg.max_epochs == epochs
        (schedule,) = cfg.param_scheduler  # no warm-up
        assert (schedule.milestones, schedule.end, schedule.gamma) == (steps, epochs, 0.1)
        assert cfg.optim_wrapper == dict(optimizer=dict(type='Adam', lr=1e-3))
        batch, gpus = (64, 1) if 'crowdpose' in name else (32, 4)
        assert cfg.train_dataloader.batch_size == batch
        assert cfg.auto_scale_lr.base_batch_size == batch * gpus

        pipeline = cfg.train_dataloader.dataset.pipeline
        (boxes,) = dicts_of_type(pipeline, 'RandomBBoxTransform')
        transform = TRANSFORMS.build(boxes)
        np.random.seed(0)
        shift, scales, angles = transform._get_transform_params(20000)
        assert not shift.any()
        assert 0.95 * scale < abs(scales - 1).max() <= scale + 1e-6
        assert 1.9 * rotation < abs(angles).max() <= 2 * rotation + 1e-3
        assert np.std(angles[angles != 0]) == pytest.approx(rotation, rel=0.1)
        assert np.mean(angles != 0) == pytest.approx(0.6, abs=0.02)
        halves = list(dicts_of_type(pipeline, 'RandomHalfBody'))
        assert [half.prob for half in halves] == ([half_body] if half_body else [])

        if reduction:
            assert cfg.model.head.loss.reduction == reduction
        encoders = [t.encoder for t in dicts_of_type(cfg.train_dataloader, 'GenerateTarget')]
        for codec in (cfg.codec, cfg.model.head.decoder, *encoders):
            assert smoothing is None or codec.smoothing == smoothing

    def test_in_a_file(self, tmp_path):
        name = 'simcc_hrnet-w32_8xb64-210e_coco-128x128'
        (tmp_path / 'published.py').write_text(
            f'_base_ = [{str(CONFIGS[name])!r}]\n'
            'from mmpose_simcc.config import use_published_recipe\n'
            'use_published_recipe(_base_)\n'
        )
        Config.fromfile(tmp_path / 'published.py').dump(tmp_path / 'dumped.py')
        cfg = Config.fromfile(tmp_path / 'dumped.py')
        check_config(cfg)
        assert cfg.model.head.decoder.smoothing == 0.2 and cfg.train_cfg.max_epochs == 210

    @pytest.mark.parametrize(
        'name, message',
        [
            ('ipr_res101_8xb64-210e_coco-256x256', None),
            ('simcc_hrnetv2-w18_8xb64-60e_300w-256x256', 'a config for COCO, CrowdPose or MPII'),
        ],
    )
    def test_of_other_models(self, name, message):
        cfg = copy.deepcopy(load(name))
        if message is None:
            use_published_recipe(cfg)
            assert cfg.train_cfg.max_epochs == 140
            return
        with pytest.raises(ValueError, match=message):
            use_published_recipe(cfg)
        assert cfg._cfg_dict == load(name)._cfg_dict


class TestRealPictures:
    """Training and evaluation on a few pictures of each dataset."""

    @pytest.fixture(autouse=True)
    def one_thread(self):
        with torch_threads(1):
            yield

    @staticmethod
    def run(name, work_dir, **options):
        """Train for two iterations, then evaluate; the metrics."""
        cfg = Config.fromfile(CONFIGS[name])
        loaders = dict(batch_size=2, num_workers=0, persistent_workers=False)
        for split in ('train', 'val', 'test'):
            cfg[f'{split}_dataloader'].update(loaders)
        cfg.merge_from_dict(
            {
                'work_dir': str(work_dir),
                'model.backbone.init_cfg': None,
                'train_dataloader.dataset.indices': 4,
                'train_cfg': dict(max_epochs=1, val_interval=2),
                'default_hooks.checkpoint': None,
                'randomness.seed': 0,
                **options,
            }
        )
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert runner.iter == 2
        return runner.test()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        'name',
        ['td-hm_hrnet-w32_quarter-8xb64-210e_mpii-64x64', 'simcc_hrnet-w32_8xb64-210e_mpii-64x64'],
    )
    def test_mpii(self, name, shared_dir, tmp_path):
        folder = shared_dir / 'data' / 'mpii'
        # MPII's own head boxes are not among the pictures
        samples = json.loads((folder / 'test_mpii.json').read_text())
        heads = np.array([np.array(s['joints'])[[9, 8]] for s in samples])
        head_file = tmp_path / 'heads.mat'
        savemat(head_file, dict(headboxes_src=heads.transpose(1, 2, 0)))
        dataset = dict(data_root=str(folder), ann_file='test_mpii.json', data_prefix=dict(img=''))
        options = {
            f'{split}_dataloader.dataset.{key}': value
            for split in ('train', 'val', 'test')
            for key, value in dataset.items()
        }
        metrics = self.run(
            name,
            tmp_path,
            **options,
            **{
                'val_dataloader.dataset.headbox_file': str(head_file),
                'test_dataloader.dataset.headbox_file': str(head_file),
            },
        )
        assert 0 <= metrics['PCK@0.1'] <= metrics['PCK'] <= 100
        assert 'Ankle PCK' in metrics

    @pytest.mark.slow
    @pytest.mark.parametrize(
        'name',
        [
            'td-hm_hrnet-w32_quarter-8xb64-210e_crowdpose-64x64',
            'simcc_hrnet-w32_8xb64-210e_crowdpose-64x64',
        ],
    )
    def test_crowdpose(self, name, shared_dir, tmp_path):
        folder = shared_dir / 'data' / 'crowdpose'
        dataset = dict(
            data_root=str(folder), ann_file='test_crowdpose.json', data_prefix=dict(img='')
        )
        options = {
            f'{split}_dataloader.dataset.{key}': value
            for split in ('train', 'val', 'test')
            for key, value in dataset.items()
        }
        detections = str(folder / 'test_crowdpose_det_AP_40.json')
        annotations = str(folder / 'test_crowdpose.json')
        metrics = self.run(
            name,
            tmp_path,
            **options,
            **{
                'val_dataloader.dataset.bbox_file': detections,
                'test_dataloader.dataset.bbox_file': detections,
                'val_evaluator.ann_file': annotations,
                'test_evaluator.ann_file': annotations,
            },
        )
        for split in ('', '(E)', '(M)', '(H)'):
            assert -1 <= metrics[f'crowdpose/AP{split}'] <= 1

    @pytest.mark.slow
    @pytest.mark.parametrize(
        'name',
        [
            'td-hm_hrnetv2-w18_daec-8xb64-60e_300w-256x256',
            'simcc_hrnetv2-w18_8xb64-60e_300w-256x256',
        ],
    )
    def test_300w(self, name, shared_dir, tmp_path):
        options = {f'{split}_dataloader.dataset.indices': 4 for split in ('val', 'test')}
        for split in ('train', 'val', 'test'):
            options[f'{split}_dataloader.dataset.data_root'] = str(shared_dir / 'data' / 'faces')
        assert 0 < self.run(name, tmp_path, **options)['NME'] < 10
