# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import csv
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import run_tool
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer
from torch import nn

from mmpose_simcc.utils.inference import build_model, load_config, model_input_size
from mmpose_simcc.workbench.complexity import (
    count_complexity,
    measure_size,
    size_table,
    time_forward,
)

COCO = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
RES50 = COCO + 'td-hm_res50_8xb64-210e_coco-256x192.py'


@pytest.fixture(scope='module')
def res50():
    return build_model(load_config(RES50))


class OneLayer(nn.Module):
    """Looks like a pose estimator: takes images and data samples."""

    def __init__(self, layer, reshape=lambda image: image):
        super().__init__()
        self.layer, self.reshape = layer, reshape

    def forward(self, image, data_samples):
        return self.layer(self.reshape(image))


def tokens(image):
    """(1, 3, 8, 16) to (1, 128, 3)."""
    return image.flatten(2).transpose(1, 2)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 3, 3, 3))
        self.matrix = nn.Parameter(torch.ones(7, 16))

    def forward(self, x):
        x = F.conv2d(x, self.weight, padding=1)  # (1, 5, 8, 16)
        return F.linear(x, self.matrix[2:])  # (1, 5, 8, 5)


class Attention(nn.Module):
    """Of 128 tokens of 3 channels to 128 tokens of 3 channels."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        if self.how == 'sdpa':
            return F.scaled_dot_product_attention(x[None], x[None], x[None])
        if self.how == 'matmul':
            return (x @ x.transpose(1, 2)).softmax(-1) @ x
        weights = torch.einsum('bnc,bmc->bnm', x, x).softmax(-1)
        return torch.einsum('bnm,bmc->bnc', weights, x)


class TestCount:
    """Worked out by hand for an image (1, 3, 8, 16)."""

    def count(self, layer, reshape=lambda image: image):
        return count_complexity(OneLayer(layer, reshape).eval(), input_size=(16, 8))

    @pytest.mark.parametrize('layer, macs, activations', [
        (nn.Conv2d(3, 5, 3, padding=1), 5 * 3 * 9 * 128, 5 * 128),
        (nn.Conv2d(3, 5, 3, stride=2, padding=1), 5 * 3 * 9 * 32, 5 * 32),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), 6 * 9 * 128, 6 * 128),
        (nn.Conv2d(3, 5, 3, padding=4, dilation=4), 5 * 3 * 9 * 128,
         5 * 128),
        (nn.Sequential(*[nn.Conv2d(3, 3, 1)] * 3), 3 * 9 * 128, 9 * 128),
        (nn.Linear(16, 4), 3 * 8 * 16 * 4, 3 * 8 * 4),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), 0, 0),
    ], ids=['conv', 'stride', 'groups', 'dilation', 'shared', 'linear',
            'no layer'])  # yapf: disable
    def test_layers(self, layer, macs, activations):
        cost = self.count(layer)
        assert cost.macs == cost.layer_macs_by_output == macs
        assert cost.activations == activations
        assert cost.product_macs == 0
        assert cost.params == sum(p.numel() for p in layer.parameters())

    @pytest.mark.parametrize('bias', [True, False])
    def test_linear_on_tokens(self, bias):
        # not contiguous, which torch may turn into a batched product
        cost = self.count(nn.Linear(3, 5, bias=bias), tokens)
        assert cost.macs == cost.layer_macs_by_output == 128 * 3 * 5
        assert cost.activations == 128 * 5
        assert cost.product_macs == 0

    @pytest.mark.parametrize('groups', [1, 3])
    def test_transposed_convolution(self, groups):
        layer = nn.ConvTranspose2d(3, 6, 4, stride=2, padding=1, groups=groups)  # to (1, 6, 16, 32)
        weights = 3 * 6 * 16 // groups
        cost = self.count(layer)
        assert cost.macs == weights * 128
        assert cost.layer_macs_by_output == weights * 512
        assert cost.paper_gflops == weights * 512 / 2**30
        assert cost.gflops == weights * 128 / 1e9
        assert cost.activations == 6 * 512

    def test_functional_calls_count_as_layers(self):
        cost = self.count(Functional())
        macs = 5 * 27 * 128 + 5 * 8 * 16 * 5
        assert cost.macs == cost.layer_macs_by_output == macs
        assert cost.activations == 5 * 128 + 5 * 8 * 5

    @pytest.mark.parametrize('how', ['sdpa', 'matmul', 'einsum'])
    def test_attention_is_in_the_true_count_only(self, how):
        cost = self.count(Attention(how), tokens)
        assert cost.product_macs == cost.macs == 2 * 128 * 128 * 3
        assert cost.layer_macs_by_output == cost.activations == 0

    def test_multihead_attention(self):

        class SelfAttention(nn.MultiheadAttention):
            def forward(self, x):
                return super().forward(x, x, x)[0]

        # without batch_first: 128 tokens of 16 channels
        cost = self.count(
            SelfAttention(16, 4), lambda image: image[:, :1].reshape(128, 1, 1).expand(-1, -1, 16)
        )
        assert cost.layer_macs_by_output == 128 * 16 * (3 * 16 + 16)
        assert cost.product_macs == 2 * 128 * 128 * 16


class TestStockModels:
    def test_agrees_with_mmengine(self, res50):

        class Forward(nn.Module):  # what can be traced
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, image):
                return self.model(image, None)

        args = Forward(res50), (torch.zeros(1, 3, 64, 64),)
        flops = FlopAnalyzer(*args)
        activations = ActivationAnalyzer(*args)
        for analyzer in flops, activations:
            analyzer.unsupported_ops_warnings(False)
        cost = count_complexity(res50, (64, 64))
        assert cost.macs == flops.by_operator()['conv']
        assert cost.activations == activations.total()

    def test_input_size_is_the_decoders(self, res50):
        assert model_input_size(res50) == (192, 256)

    def test_pretrained_weights_are_not_loaded(self, tmp_path):
        cfg = load_config(RES50)
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=str(tmp_path / 'missing.pth')
        )
        build_model(cfg)


class TestTime:
    def test_passes(self):
        seen = []
        times = time_forward(OneLayer(seen.append), (8, 4), seconds=0)
        assert len(times) == 5 and (times > 0).all()
        # each after one that does not count, and the warm-up
        assert [tuple(image.shape) for image in seen] == [(1, 3, 4, 8)] * 12


class TestConfigErrors:
    @pytest.mark.parametrize(
        'name, message',
        [
            ('missing.py', 'No such file'),
            ('mmpose::body_2d_keypoint/missing.py', 'does not exist'),
            ('no_such_package::a/b.py', 'no_such_package is not installed'),
            (
                'mmpose::body_2d_keypoint/dekr/coco/dekr_hrnet-w32_8xb10-140e_coco-512x512.py',
                'not a TopdownPoseEstimator',
            ),
        ],
    )
    def test_stock(self, name, message):
        with pytest.raises(ValueError, match=message) as error:
            load_config(name)
        assert name in str(error.value)
        assert '\n' not in str(error.value)

    @pytest.mark.parametrize(
        'text, message',
        [
            ('train_cfg = dict()', 'no `model`'),
            ('model = dict(type="NoSuchModel")', 'NoSuchModel'),
            ('model = dict(', 'SyntaxError'),
            ('import no_such_module', 'no_such_module'),
        ],
    )
    def test_own(self, tmp_path, text, message):
        path = tmp_path / 'config.py'
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as error:
            load_config(str(path))
        assert '\n' not in str(error.value)

    def test_model_that_does_not_build(self, tmp_path):
        path = tmp_path / 'config.py'
        path.write_text(
            'model = dict(type="TopdownPoseEstimator", backbone=dict(type="NoSuchBackbone"))'
        )
        with pytest.raises(ValueError, match='NoSuchBackbone') as error:
            measure_size(str(path))
        assert '\n' not in str(error.value)

    def test_head_without_decoder(self):
        cfg = load_config(RES50)
        cfg.model.head.decoder = None
        assert model_input_size(build_model(cfg)) == (192, 256)
        cfg.pop('codec')
        with pytest.raises(ValueError, match='HeatmapHead.*input_size'):
            model_input_size(build_model(cfg))


# the sizes that papers print, and the config that reproduces each; "T" is a table of Li et al.,
# "SimCC", ECCV 2022, of Zhang et al., "DARK", CVPR 2020, or of Li et al., "TokenPose", ICCV 2021;
# "code" are parameters of the published models
with open(Path(__file__).parent / 'golden' / 'paper_sizes.csv', encoding='utf-8') as file:
    PAPERS = list(csv.DictReader(file))


def paper_rows():
    for row in PAPERS:
        # the smallest inputs in the fast tests
        slow = row['input_size'] != '64x64' or 'SimBa-R50' not in row['model']
        yield pytest.param(
            row,
            id='-'.join((row['source'], row['model'], row['scheme'], row['input_size'])),
            marks=[pytest.mark.slow] if slow else [],
        )


@pytest.mark.parametrize('row', paper_rows())
def test_papers(row, repo_root):
    """Parameters within 0.06M, GFLOPs within 0.15 or 3%, or the reason why not is true.

    ``tolerance``: the 1D heatmap's layout is not published in full."""
    if row['difference'] == 'no model':
        assert not row['config']
        pytest.skip('neither this project nor MMPose has this model')
    config = row['config']
    size = measure_size(config if '::' in config else str(repo_root / 'configs' / config))
    assert '{1}x{0}'.format(*size['input_size']) == row['input_size']
    tolerance = float(row['tolerance'] or 0)
    if row['params']:
        params = float(row['params'])
        assert size['params'] / 1e6 == pytest.approx(params, abs=0.0601, rel=tolerance)
    if not row['gflops']:
        return
    printed, layers = float(row['gflops']), size['paper_gflops']
    products = size['product_gflops'] * 1e9 / 2**30
    if not row['difference']:
        assert layers == pytest.approx(printed, abs=0.1501, rel=max(0.03, tolerance))
    elif row['difference'] == 'over 1e9':  # in place of 2**30
        assert printed == pytest.approx(layers * 2**30 / 1e9, rel=0.01)
    elif row['difference'] == 'real cost':  # of transposed convolutions
        assert printed == pytest.approx(size['gflops'] * 1e9 / 2**30, rel=0.03)
    elif row['difference'] == 'between':  # the count without and with attention products
        assert layers < printed < layers + products
    else:  # of unknown origin; the published model has the same count
        assert row['difference'] == 'beyond'
        assert printed > 1.5 * (layers + products)


class TestTables:
    def test_formats(self):
        # as measured, with a long name
        records = [
            measure_size(RES50),
            dict(
                config='td-hm_tokenpose-l-d24_8xb64-300e_coco-256x192.py',
                input_size=(192, 256),
                params=27_482_400,
                paper_gflops=10.72,
                gflops=12.19,
                product_gflops=0.69,
                activations=65_000_000,
            ),
        ]
        for record in records:
            record.update(
                device='cpu', num_threads=2, time_ms=1234.5, time_iqr_ms=12.3, num_runs=12
            )
        text = size_table(records)
        assert max(map(len, text.splitlines())) <= 120
        row = next(line for line in text.splitlines() if 'res50' in line)
        assert row.split()[1:] == [
            '256x192',
            '34.000',
            '8.99',
            '5.43',
            '0.00',
            '11.97',
            '1234.5',
            '(12.3)',
        ]
        lines = size_table(records, 'markdown').splitlines()
        assert [line.count('|') for line in lines[:4]] == [9] * 4
        assert set(lines[1]) <= set('|:-')
        loaded = json.loads(size_table(records, 'json'))
        assert loaded[0]['params'] == 33_999_697
        with pytest.raises(ValueError, match='fmt'):
            size_table(records, 'html')


class TestTool:
    def test_measures(self, repo_root):
        config = str(
            repo_root
            / 'configs'
            / 'body_2d_keypoint'
            / 'simcc'
            / 'coco'
            / 'simcc_res50_upfree-8xb64-210e_coco-64x64.py'
        )
        done = run_tool('model_size.py', config, '--format', 'json', '--device', 'cpu')
        assert done.returncode == 0
        (record,) = json.loads(done.stdout)
        assert record['config'] == config
        assert record['input_size'] == [64, 64]
        assert record['time_ms'] > 0
        assert record['num_runs'] >= 5

    def test_bad_config(self):
        done = run_tool('model_size.py', 'missing.py')
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith('model_size: config missing.py')

    @pytest.mark.parametrize('args', [(), ('a.py', '--device', 'nowhere')])
    def test_usage(self, args):
        assert run_tool('model_size.py', *args).returncode == 2
