# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Every config: parses, agrees with its name, and builds the paper's size."""
import functools
import json
import re

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import KEYPOINT_CODECS, MODELS

CONFIGS = {
    path.stem: path
    for path in sorted((ROOT / 'configs').rglob('*.py'))
}
NAME = re.compile(
    r'(?P<algorithm>[a-z0-9-]+)_(?P<arch>[a-z0-9-]+)_(?:(?P<setting>[a-z-]+)-)?'
    r'\d+xb\d+-(?P<epochs>\d+)e_'
    r'(?P<dataset>[a-z-]+)-(?P<h>\d+)x(?P<w>\d+)')
DATASETS = {
    'coco': 'CocoDataset',
    'toy-coco': 'CocoDataset',
    'mpii': 'MpiiDataset',
    'crowdpose': 'CrowdPoseDataset'
}
SMOOTHINGS = {
    'no-smoothing': 'none',
    'gaussian': 'gaussian',
    'laplace': 'laplace'
}

# Million parameters, from the papers' tables (SimCC Tables 1, 3 and 4; for
# ResNet-101, ResNet-152 and HRNet-W32 heatmaps HRNet's Table 1) and, with
# three decimals, from the published models.
PARAMETERS = {
    'td-hm_res50_8xb64-210e_coco-64x64': 34.00,
    'td-hm_res50_8xb64-210e_coco-128x128': 34.00,
    'td-hm_res50_8xb64-210e_coco-256x192': 34.00,
    'td-hm_res50_8xb64-210e_coco-256x256': 34.0,
    'td-hm_res50_8xb64-210e_coco-384x288': 34.00,
    'td-hm_res101_8xb64-210e_coco-256x192': 53.0,
    'td-hm_res152_8xb32-210e_coco-256x192': 68.6,
    'td-hm_hrnet-w32_8xb64-210e_coco-256x192': 28.5,
    'td-hm_hrnet-w48_8xb32-210e_coco-64x64': 63.6,
    'td-hm_hrnet-w48_8xb32-210e_coco-128x128': 63.6,
    'td-hm_hrnet-w48_8xb32-210e_coco-256x192': 63.6,
    'td-hm_hrnet-w48_8xb32-210e_coco-384x288': 63.6,
    'simcc_res50_8xb64-210e_coco-64x64': 24.672,
    'simcc_res50_8xb64-210e_coco-128x128': 25.017,
    'simcc_res50_8xb64-210e_coco-256x192': 25.688,
    'simcc_res50_8xb64-210e_coco-256x256': 26.3,
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
}


@functools.cache
def load(name):
    return Config.fromfile(CONFIGS[name])


def of_type(node, type_name):
    """Every dict of this type anywhere in a config."""
    if isinstance(node, dict):
        if node.get('type') == type_name:
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from of_type(child, type_name)


@functools.cache
def _build(model, decoder_size):
    """A model without storage, for its shapes. The codec computes with real
    numbers, so it stays outside; configs that differ by the codec alone share
    the model."""
    init_default_scope('mmpose')
    model = json.loads(model)
    model['head'].update(json.loads(decoder_size))
    with torch.device('meta'):
        return MODELS.build(model).eval()


def build(name):
    model = load(name).model.to_dict()
    decoder = KEYPOINT_CODECS.build(model['head'].pop('decoder'))
    size = {}
    if model['head']['type'] == 'SimCCClassifierHead':
        size = dict(
            input_size=decoder.input_size,
            simcc_split_ratio=decoder.simcc_split_ratio)
    return _build(json.dumps(model), json.dumps(size)), decoder


@pytest.mark.parametrize('name', CONFIGS)
class TestEveryConfig:

    def test_agrees_with_its_name(self, name):
        cfg, codec = load(name), load(name).codec
        says = NAME.fullmatch(name)
        assert says, f'{name} does not follow the naming scheme'
        assert codec.input_size == (int(says['w']), int(says['h']))
        assert cfg.train_cfg.max_epochs == int(says['epochs'])
        assert cfg.dataset_type == DATASETS[says['dataset']]
        setting = says['setting'] or ''
        if says['algorithm'] == 'simcc':
            assert codec.type == 'SimCCCodec'
            if 'deconv' in setting:
                assert cfg.model.head.deconv_out_channels
            for word, smoothing in SMOOTHINGS.items():
                if word in setting:
                    assert codec.label_smoothing == smoothing
        else:
            assert codec.type == dict(
                dark='DARKCodec', daec='DAECCodec').get(
                    setting, 'HeatmapCodec')

    def test_one_codec_everywhere(self, name):
        cfg = load(name)._cfg_dict
        assert cfg.model.head.decoder == cfg.codec
        encoders = [t.encoder for t in of_type(cfg, 'GenerateTarget')]
        assert encoders and all(e == cfg.codec for e in encoders)
        sizes = [t.input_size for t in of_type(cfg, 'TopdownAffine')]
        assert sizes and all(s == cfg.codec.input_size for s in sizes)

    def test_runs_in_mmpose(self, name):
        cfg = load(name)
        assert cfg.default_scope == 'mmpose'
        assert cfg.custom_imports.imports == ['mmpose_simcc']

    def test_builds_and_gives_what_the_codec_decodes(self, name):
        model, decoder = build(name)
        w, h = decoder.input_size
        images = torch.empty(1, 3, h, w, device='meta')
        outputs = model.head(model.extract_feat(images))
        K = load(name).model.head.out_channels
        if load(name).codec.type == 'SimCCCodec':
            expected = [(1, K, bins) for bins in decoder.num_bins]
        else:
            expected = [(1, K, *decoder.heatmap_size[::-1])]
            if torch.is_tensor(outputs):
                outputs = [outputs]
        assert [tuple(out.shape) for out in outputs] == expected


@pytest.mark.parametrize('name, millions', PARAMETERS.items())
def test_parameters_are_the_papers(name, millions):
    model, _ = build(name)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.06)


def test_published_gaussian_settings():
    """Of SimCC's published experiments: Table 2's rows."""
    for name, ratio, sigma in (
        ('simcc_res50_deconv-gaussian-8xb64-210e_coco-384x288', 2, 6),
        ('simcc_hrnet-w48_gaussian-8xb32-210e_coco-256x192', 2, 4),
        ('simcc_hrnet-w48_gaussian-8xb32-210e_coco-384x288', 1.5, 4),
    ):
        codec = load(name).codec
        assert (codec.simcc_split_ratio, codec.sigma) == (ratio, sigma)
