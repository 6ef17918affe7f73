# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import json
import time

import pytest
import torch
import torch.nn.functional as F
from conftest import run_tool
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer
from torch import nn

from mmpose_simcc.utils.inference import build_model, load_config, model_input_size
from mmpose_simcc.workbench.complexity import (
    PAPER_SIZES,
    PaperSize,
    compare_with_papers,
    count_complexity,
    is_settled,
    measure_size,
    papers_table,
    size_table,
    time_forward,
)

COCO = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
RES50 = COCO + 'td-hm_res50_8xb64-210e_coco-256x192.py'
HRNET_W48 = COCO + 'td-hm_hrnet-w48_8xb32-210e_coco-256x192.py'


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

    # SimCC, Tables 1 to 3
    @pytest.mark.parametrize(
        'size, gflops', [((64, 64), 0.7), ((128, 128), 3.0), ((192, 256), 8.9), ((256, 256), 12.0)]
    )
    def test_simple_baseline(self, res50, size, gflops):
        cost = count_complexity(res50, size)
        assert cost.params == 33_999_697
        assert cost.paper_gflops == pytest.approx(gflops, abs=0.1)
        # a quarter of the deconvolutions remains
        assert cost.gflops < 0.65 * cost.paper_gflops

    def test_hrnet(self):
        cost = count_complexity(build_model(load_config(HRNET_W48)), (64, 64))
        assert cost.params / 1e6 == pytest.approx(63.6, abs=0.05)
        assert cost.paper_gflops == pytest.approx(1.2, abs=0.05)
        assert cost.product_macs == 0
        # it has no transposed convolution
        assert cost.macs == cost.layer_macs_by_output

    def test_input_size_is_the_decoders(self, res50):
        assert model_input_size(res50) == (192, 256)

    def test_pretrained_weights_are_not_loaded(self, tmp_path):
        cfg = load_config(RES50)
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=str(tmp_path / 'missing.pth')
        )
        build_model(cfg)


class TestTime:
    def test_median(self):

        def sleep(image):
            time.sleep(0.01)

        measured = time_forward(OneLayer(sleep), (8, 8), min_run_time=0.1)
        assert 0.01 <= measured.median < 0.03
        assert 0 <= measured.iqr < 0.03
        assert len(measured.times) * measured.number_per_run > 2


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


class TestPapers:
    def test_every_config_is_named_after_its_input(self):
        for row in PAPER_SIZES:
            if row.config is None:
                assert row.reason
            else:
                width, height = row.input_size
                assert row.config.endswith(f'coco-{height}x{width}.py')
            assert row.params is not None or row.gflops is not None
        keys = [row[:4] for row in PAPER_SIZES]
        assert len(set(keys)) == len(keys)

    @pytest.mark.parametrize(
        'printed, own, agrees', [(34.0, 34.06, True), (34.0, 33.94, True), (34.0, 34.07, False)]
    )
    def test_params_tolerance(self, printed, own, agrees):
        row = PaperSize('', '', '', (64, 64), None, params=printed)
        assert row.params_agree(own) is agrees
        assert row.gflops_agree(0)  # nothing is printed

    @pytest.mark.parametrize(
        'printed, own, agrees',
        [
            (1.2, 1.35, True),
            (1.2, 1.36, False),  # 0.15
            (20.0, 20.6, True),
            (20.0, 20.7, False),
        ],
    )  # 3%
    def test_gflops_tolerance(self, printed, own, agrees):
        row = PaperSize('', '', '', (64, 64), None, gflops=printed)
        assert row.gflops_agree(own) is agrees

    def test_verdicts(self):
        def row(config=RES50, size=(192, 256), **kwargs):
            return PaperSize('S', 'M', 'heatmap', size, config, **kwargs)

        records = compare_with_papers(
            [
                row(params=34.0, gflops=8.9),
                row(params=35.0, reason='because'),
                row(gflops=5.4),
                row('body_2d_keypoint/missing.py', params=1.0),
                row(None, gflops=1.0, reason='nobody has it'),
                row(size=(64, 64), params=34.0, reason='not used'),
            ]
        )
        assert [r['verdict'] for r in records] == [
            'ok',
            'differs',
            'differs',
            'no config',
            'no model',
            'fails',
        ]
        assert [is_settled(r) for r in records] == [True, True, False, False, True, False]
        text = papers_table(records)
        for words in (
            'differs [1]',
            '[1] because',
            'not explained yet',
            'body_2d_keypoint/missing.py',
            'nobody has it',
            'another input size, 256x192',
            '1 ok, 2 differs, 1 no config, 1 no model, 1 fails',
        ):
            assert words in text
        assert json.loads(papers_table(records, 'json'))[0]['verdict'] == 'ok'

    def test_small_rows(self):
        """One of each kind of model, at the smallest input."""
        rows = [
            row for row in PAPER_SIZES if row.input_size == (64, 64) and row.model == 'SimBa-R50'
        ]
        records = compare_with_papers(rows)
        assert [r['verdict'] for r in records] == ['ok'] * len(rows)
        assert {r['scheme'] for r in records} == {'heatmap', 'SimCC', 'SimCC, deconv'}

    @pytest.mark.parametrize('row', [
        pytest.param(row, id=f'{row.model}-{row.input_size}')
        for row in PAPER_SIZES if row.config and row.reason
    ])  # yapf: disable
    def test_reasons_are_true(self, row, repo_root):
        config = row.config if '::' in row.config else str(repo_root / 'configs' / row.config)
        size = measure_size(config)
        layers = size['paper_gflops']
        products = size['product_gflops'] * 1e9 / 2**30
        if 'over 1e9' in row.reason:
            assert row.gflops == pytest.approx(layers * 2**30 / 1e9, rel=0.01)
        elif 'real cost' in row.reason:
            assert row.gflops == pytest.approx(size['gflops'] * 1e9 / 2**30, rel=0.03)
        elif 'lies between' in row.reason:
            assert layers < row.gflops < layers + products
        else:
            assert row.gflops > 1.5 * (layers + products)

    @pytest.mark.slow
    def test_every_row_agrees_or_says_why(self):
        done = run_tool('model_size.py', '--papers')
        text = done.stdout
        assert done.returncode == 0, text
        assert text.count('\n') > len(PAPER_SIZES)
        assert max(map(len, text.splitlines())) <= 120


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
            / 'simcc_res50_8xb64-210e_coco-64x64.py'
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

    @pytest.mark.parametrize('args', [(), ('--papers', 'a.py'), ('a.py', '--device', 'nowhere')])
    def test_usage(self, args):
        assert run_tool('model_size.py', *args).returncode == 2
