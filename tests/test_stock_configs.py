# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Every top-down config of MMPose, swapped to every kind of codec.

``python tests/test_stock_configs.py`` writes what came out, for the installed
MMPose, to ``docs/stock_configs.md``.
"""

import copy
import gc
import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import mmpose
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.utils import is_installed
from mmpose.registry import MODELS
from torch import nn

from mmpose_simcc.config import check_config, check_frames, set_representation

STOCK = Path(mmpose.__file__).parent / '.mim' / 'configs'
PAGE = ROOT / 'docs' / 'stock_configs.md'
TASKS = ('body', 'hand', 'face', 'animal', 'fashion', 'wholebody')
NOT_TOP_DOWN = ('associative_embedding', 'cid', 'dekr', 'edpose', 'rtmo', 'yoloxpose')
CODECS = ('DARKCodec', 'DAECCodec', 'SimCCCodec')
# What a user gives, from nothing on, until the swap is made.
GIVEN = ((), ('head',), ('head', 'sigma'), ('use_udp',))


@MODELS.register_module()
class PatchFeatures(nn.Module):
    """Features of the size of a ViT's, where mmpretrain is not installed: the reference set has
    it, but it refuses the oldest MMEngine that this package allows."""

    def __init__(self, channels):
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 16, 16)

    def forward(self, images):
        return (self.patches(images),)


@lru_cache(None)
def stock_configs():
    """Paths below ``configs`` and their configs."""
    found = {}
    for task in TASKS:
        for path in sorted((STOCK / f'{task}_2d_keypoint').rglob('*.py')):
            name = path.relative_to(STOCK)
            if name.parts[1] not in NOT_TOP_DOWN:
                found[name.as_posix()] = Config.fromfile(path)
    return found


def pipelines(cfg):
    """Those of the loaders, for training and for the test."""
    return [cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'test')]


def parts(cfg):
    """The head that predicts keypoints, its codec, ``use_udp`` of pipelines."""
    head = cfg.model.get('head', {})
    head = head.get('pose_cfg', head)
    affine = next(step for step in pipelines(cfg)[0] if step.type == 'TopdownAffine')
    return head, head.get('decoder') or {}, affine.get('use_udp', False)


def identity(cfg):
    """What a swap depends on: not where weights and data come from."""

    def strip(node):
        if isinstance(node, dict):
            return {k: strip(v) for k, v in node.items() if k not in ('init_cfg', '_scope_')}
        return [strip(child) for child in node] if isinstance(node, (list, tuple)) else node

    pipeline = [
        step
        for steps in pipelines(cfg)
        for step in steps
        if step.type in ('TopdownAffine', 'GenerateTarget')
    ]
    return json.dumps([strip(cfg.model), strip(pipeline)], sort_keys=True, default=str)


def swap(cfg, codec, given):
    """The config with another codec, with these arguments beside its type."""
    cfg = copy.deepcopy(cfg)
    head = 'SimCCClassifierHead' if codec == 'SimCCCodec' else 'HeatmapHead'
    arguments = {
        name: value for name, value in dict(sigma=2, use_udp=True).items() if name in given
    }
    set_representation(
        cfg, dict(type=codec, **arguments), dict(type=head) if 'head' in given else None
    )
    # what is tested of it: of a thousand configs, the data sets fill the memory
    train, test = (dict(dataset=dict(pipeline=pipeline)) for pipeline in pipelines(cfg))
    return Config(dict(model=cfg.model, train_dataloader=train, test_dataloader=test))


@lru_cache(None)
def distinct():
    """The distinct configs: a path, and how many are like it."""
    like = defaultdict(list)
    for name, cfg in stock_configs().items():
        like[identity(cfg)].append(name)
    return {names[0]: len(names) for names in like.values()}


@lru_cache(None)
def outcome(name, codec):
    """What has to be given to swap, None where nothing helps, the config, and
    why less does not do."""
    reason = None
    for given in GIVEN:
        if codec == 'SimCCCodec' and set(given) & {'sigma', 'use_udp'}:
            continue
        try:
            return given, swap(stock_configs()[name], codec, given), reason
        except ValueError as error:
            reason = reason or str(error)
    return None, None, reason


def page():
    """The page of the documentation."""
    rows = defaultdict(lambda: [set(), 0, None])
    for name, number in distinct().items():
        cfg = stock_configs()[name]
        head, codec, use_udp = parts(cfg)
        title = head.get('type', cfg.model.type)
        if 'pose_cfg' in cfg.model.get('head', {}):
            title += f' in {cfg.model.head.type}'
        title += f' | {codec.get("type", "")}'
        if codec.get('heatmap_type'):
            title += f', {codec.heatmap_type}'
        if use_udp:
            title += ', `use_udp` in the pipeline'
        cells = []
        for target in CODECS:
            given, _, reason = outcome(name, target)
            cell = 'yes' if given == () else 'no'
            if given:
                cell = 'give ' + ', '.join(f'`{word}`' for word in given)
            # another kind of outputs needs another head: the page says so
            if reason and 'does not fit' in reason:
                reason = None
            cells.append((cell, reason and reason.replace(target, 'the codec')))
        row = rows[title, tuple(cells)]
        row[0].add(cfg.model.get('backbone', {}).get('type', '').rpartition('.')[2])
        row[1] += number
        row[2] = row[2] or name
    lines, reasons = [], {}
    for (title, cells), (backbones, number, example) in rows.items():
        line = [title, ', '.join(sorted(backbones)), str(number)]
        for cell, reason in cells:
            if reason:
                reasons.setdefault(reason, example)
                cell += f' ({list(reasons).index(reason) + 1})'
            line.append(cell)
        lines.append('| ' + ' | '.join(line) + ' |')
    return TEMPLATE.format(
        version=mmpose.__version__,
        configs=sum(distinct().values()),
        distinct=len(distinct()),
        rows='\n'.join(lines),
        reasons='\n'.join(
            f'{index}. {reason} (`{example}`)'
            for index, (reason, example) in enumerate(reasons.items(), 1)
        ),
    )


TEMPLATE = """# Stock configs

What `set_representation` does with the {configs} top-down configs of MMPose {version},
{distinct} of them distinct: *yes* where the codec's `type` is enough, or what has to be
given beside it. `head` is `dict(type='HeatmapHead')` or
`dict(type='SimCCClassifierHead')`, where the base's head has outputs of another kind;
`sigma` and `use_udp` are arguments of the codec. What is refused, is refused when the
config is read; the reasons are below, each with one config that it is given for.

| head | codec | backbones | configs | DARK | DAEC | SimCC |
|---|---|---|---|---|---|---|
{rows}

{reasons}

This page is written by the test that makes all these swaps, compares the sizes of
features, outputs and labels in all of them, and trains a step and predicts with each
kind of them.
"""


def buildable(cfg):
    """The config's model without weights to load, and with a stand-in for the
    backbone of a package that is not installed."""
    model = copy.deepcopy(cfg.model)
    model.pop('init_cfg', None)
    package = model.backbone.type.rpartition('.')[0]
    if package and not is_installed(package):
        model.backbone = dict(type='PatchFeatures', channels=model.head.in_channels)
    model.backbone.pop('init_cfg', None)
    return model


def build_on_meta(model):
    """Without memory for the weights."""
    try:
        with torch.device('meta'):
            built = MODELS.build(model)
    except (RuntimeError, NotImplementedError):  # it computes while it is built
        built = MODELS.build(model)
    return revert_sync_batchnorm(built).to('meta').eval()


def features(name):
    """What the backbone and the neck of a config make of its input, and the
    number of the backbone's weights."""
    cfg = stock_configs()[name]
    model = buildable(cfg)
    if model.get('neck') and model.neck.type == 'GlobalAveragePooling':
        model.pop('neck')
    model.head = dict(type='HeatmapHead', in_channels=1, out_channels=1)
    return _features(json.dumps(model), tuple(parts(cfg)[1].input_size))


@lru_cache(None)
@torch.no_grad()
def _features(model, input_size):
    built = build_on_meta(Config(json.loads(model))._cfg_dict)
    w, h = input_size
    maps = built.extract_feat(torch.zeros(2, 3, h, w, device='meta'))
    return maps, sum(weights.numel() for weights in built.backbone.parameters())


def swaps():
    """(config, codec) of all that swaps."""
    for name in distinct():
        for codec in CODECS:
            if outcome(name, codec)[0] is not None:
                yield name, codec


def kinds(name, codec):
    """What a swap has to show in training: the new head with its loss, what
    the base had, and what features it gets. DAEC differs from DARK only in
    what it does with the head's outputs."""
    base = stock_configs()[name]
    cfg = outcome(name, codec)[1]
    head = parts(cfg)[0]
    _, base_codec, use_udp = parts(base)
    neck = base.model.get('neck') or {}
    shown = {(codec, cfg.model.head.type, head.type, str((head.get('loss') or {}).get('type')))}
    if codec != 'DAECCodec':
        shown.add((codec, base_codec.type, use_udp))
        shown.add((codec, neck.get('type'), isinstance(features(name)[0], list)))
    return shown


def cases():
    """The cheapest swaps that show every kind."""
    seen, chosen = set(), []
    costs = []
    for name, codec in swaps():
        w, h = parts(outcome(name, codec)[1])[1].input_size
        costs.append((features(name)[1] * w * h, name, codec))
    for _, name, codec in sorted(costs):
        if kinds(name, codec) - seen:
            seen |= kinds(name, codec)
            chosen.append((name, codec))
    return chosen


def parts_to_check(cfg):
    """What `check_config` looks at: the network's sizes, its codecs, and its data's keypoints."""
    head, codec, use_udp = parts(cfg)
    network = [(cfg.model.get(part) or {}).get('type') for part in ('backbone', 'neck')]
    data = cfg.train_dataloader.dataset
    return {
        (*network, head.get('type')),
        (head.get('type'), codec.get('type'), codec.get('heatmap_type'), use_udp),
        (data.type, head.get('out_channels')),
    }


def sample(pipeline, keypoints):
    """A person in noise, through what a pipeline does without chance."""
    steps = Compose(
        [
            step
            for step in pipeline
            if step['type']
            in ('GetBBoxCenterScale', 'TopdownAffine', 'GenerateTarget', 'PackPoseInputs')
        ]
    )
    rng = np.random.RandomState(0)
    return steps(
        dict(
            img=rng.randint(0, 256, (200, 200, 3), dtype=np.uint8),
            img_shape=(200, 200),
            ori_shape=(200, 200),
            img_path='noise',
            id=1,
            img_id=1,
            bbox=np.array([[20, 20, 180, 180]], dtype=np.float32),
            bbox_score=np.ones(1, dtype=np.float32),
            keypoints=rng.uniform(40, 160, (1, keypoints, 2)).astype(np.float32),
            keypoints_visible=np.ones((1, keypoints), dtype=np.float32),
            dataset_keypoint_weights=np.ones(keypoints, dtype=np.float32),
            flip_indices=list(range(keypoints)),
        )
    )


@pytest.mark.slow
class TestStockConfigs:
    @pytest.fixture(autouse=True)
    def scope(self):
        init_default_scope('mmpose')

    def test_there_are_many(self):
        assert len(distinct()) > 100
        assert {parts(stock_configs()[name])[0].get('type') for name in distinct()} >= {
            *('HeatmapHead', 'CPMHead', 'MSPNHead', 'ViPNASHead', 'SimCCHead', 'RTMCCHead'),
            *('RTMWHead', 'RegressionHead', 'RLEHead', 'DSNTHead'),
        }

    def test_what_swaps(self):
        """By kinds, told from the config alone."""
        for name in distinct():
            head, codec, use_udp = parts(stock_configs()[name])
            results = [outcome(name, target)[0] for target in CODECS]
            assert results[0] == results[1]
            heatmaps, simcc = results[1:]
            kind = codec.get('type')
            if kind is None or head.type == 'MSPNHead':  # distillation, and a codec a unit
                assert heatmaps is simcc is None, name
            elif kind == 'SimCCLabel':
                assert (heatmaps, simcc) == (('head', 'sigma'), ()), name
            elif kind == 'RegressionLabel':
                assert (heatmaps, simcc) == (('head', 'sigma'), ('head',)), name
            elif kind == 'IntegralRegressionLabel' or codec.get('heatmap_type') == 'combined':
                assert (heatmaps, simcc) == (('head',), ('head',)), name
            elif (kind == 'UDPHeatmap') != use_udp:
                assert (heatmaps, simcc) == (('use_udp',), ('head',)), name
            else:
                assert (heatmaps, simcc) == ((), ('head',)), name

    def test_frames(self):
        """Swapped configs agree with themselves; stock ones mostly do."""
        contradict = set()
        for name in distinct():
            cfg = stock_configs()[name]
            try:
                check_frames(cfg)
            except ValueError as error:
                assert parts(cfg)[1].type in str(error) and 'TopdownAffine' in str(error)
                contradict.add(name)
        assert {
            name for name in distinct() if 'use_udp' in (outcome(name, 'DARKCodec')[0] or ())
        } == contradict
        for name, codec in swaps():
            swapped = outcome(name, codec)[1]
            assert check_frames(swapped) == parts(swapped)[1].get('use_udp', False)

    def test_check_config(self):
        """Stock configs whose frames agree, agree in all else: one of each kind."""
        seen = set()
        for name in distinct():
            cfg = stock_configs()[name]
            if seen >= parts_to_check(cfg):
                continue
            seen |= parts_to_check(cfg)
            package = cfg.model.get('backbone', {}).get('type', '').rpartition('.')[0]
            if not package or is_installed(package):
                try:
                    check_config(cfg)
                except ValueError as error:
                    assert 'contradict' in str(error), name

    def test_sizes(self):
        """Every swap's head takes the features, and its outputs are those
        that the codec decodes, with the number of keypoints."""
        for name, codec in swaps():
            cfg = outcome(name, codec)[1]
            head = build_on_meta(cfg.model.head)
            outputs = head(features(name)[0])
            if cfg.model.head.type == 'VisPredictHead':
                outputs, head = outputs[0], head.pose_head
            if isinstance(outputs, list):  # of stages
                outputs = outputs[-1]
            base = parts(stock_configs()[name])[0]
            keypoints = base.get('num_joints') or base.out_channels
            if parts(stock_configs()[name])[1].get('heatmap_type') == 'combined':
                keypoints //= 3
            decoder = head.decoder
            if codec == 'SimCCCodec':
                sizes = [(2, keypoints, bins) for bins in decoder.num_bins]
                assert [tuple(output.shape) for output in outputs] == sizes, name
            else:
                w, h = decoder.heatmap_size
                assert tuple(outputs.shape) == (2, keypoints, h, w), name

    def test_training(self):
        """A step and a prediction by the smallest models of every kind."""
        assert len(cases()) > 20
        for name, codec in cases():
            self.train(name, codec)
            gc.collect()  # models hold cycles

    @staticmethod
    def train(name, codec):
        cfg = outcome(name, codec)[1]
        torch.manual_seed(0)
        model = MODELS.build(buildable(cfg))
        model = revert_sync_batchnorm(model)
        head = parts(cfg)[0]
        keypoints = head.get('num_joints') or head.out_channels

        model.train()
        data = pseudo_collate([sample(pipelines(cfg)[0], keypoints)] * 2)
        losses = model(**model.data_preprocessor(data, True), mode='loss')
        assert losses, name
        for key, value in losses.items():
            assert torch.isfinite(torch.as_tensor(value)).all(), (name, codec, key)
        loss, _ = model.parse_losses(losses)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients), name
        assert any(p.grad is not None and p.grad.any() for p in model.backbone.parameters())

        model.eval()
        data = pseudo_collate([sample(pipelines(cfg)[1], keypoints)] * 2)
        with torch.no_grad():
            results = model(**model.data_preprocessor(data, False), mode='predict')
        assert len(results) == 2
        for result in results:
            predicted = result.pred_instances
            assert predicted.keypoints.shape == (1, keypoints, 2), name
            assert np.isfinite(predicted.keypoints).all(), name
            assert np.isfinite(predicted.keypoint_scores).all(), name

    @pytest.mark.skipif(not PAGE.is_file(), reason='outside the repository')
    def test_page_is_up_to_date(self):
        if f'MMPose {mmpose.__version__},' not in PAGE.read_text():
            pytest.skip('the page is about another MMPose')
        assert PAGE.read_text() == page(), 'python tests/test_stock_configs.py writes it'


if __name__ == '__main__':
    PAGE.write_text(page())
