# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The scoring engine against MMPose's own evaluation."""

import copy
import functools
import json
import sys

import numpy as np
import pytest
from conftest import ROOT
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmpose_simcc.utils.console import silenced
from mmpose_simcc.utils.inference import build_model, load_config
from mmpose_simcc.workbench.compare.data import use_annotated_boxes, use_data
from mmpose_simcc.workbench.scoring import Scorer, build_metrics, predict
from mmpose_simcc.workbench.toy import make_toy_coco

FOLDER = ROOT / 'configs/body_2d_keypoint/topdown_heatmap/toy_coco'
HEATMAP = str(FOLDER / 'td-hm_res18_1xb8-4e_toy-coco-64x64.py')
# the nine keypoints of the head and the arms
MAPPING = [(i, i) for i in range(9)]
PERMUTED = [(i, 8 - i) for i in range(9)]


@pytest.fixture(scope='module')
def cfg(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=1, val=8, seed=1, workers=1)
    path = root / 'annotations/person_keypoints_val2017.json'
    content = json.loads(path.read_text())
    for image in content['images']:
        image['crowdIndex'] = image['id'] / 16
    path.write_text(json.dumps(content))
    cfg = load_config(HEATMAP)
    use_data(cfg, str(root))
    use_annotated_boxes(cfg)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False, batch_size=3)
    return cfg


def build_loader(cfg):
    DefaultScope.get_instance('scoring', scope_name='mmpose')
    with silenced():
        return Runner.build_dataloader(cfg.test_dataloader, seed=0)


def noisy(samples, spread, seed):
    """The truth with noise, in input pixels, with made-up scores."""
    found = []
    for sample in samples:
        rng = np.random.default_rng([seed, sample.id])
        truth, about = sample.gt_instances.keypoints, sample.metainfo
        corner = about['input_center'] - 0.5 * about['input_scale']
        inside = (truth - corner) / about['input_scale'] * about['input_size']
        keypoints = (inside + rng.normal(0, spread, truth.shape)).astype(np.float32)
        scores = rng.random(truth.shape[:2]).astype(np.float32)
        found.append(InstanceData(keypoints=keypoints, keypoint_scores=scores))
    return found


SPREADS = dict(exact=0.2, rough=1.0)


@functools.cache
def model():
    """Maps input pixels back by MMPose's code; the network is not used."""
    return build_model(load_config(HEATMAP))


def score(cfg, evaluator):
    """Of two decoders by the engine."""
    loader = build_loader(cfg)
    decoders = {
        name: (lambda samples, spread=spread: noisy(samples, spread, 0))
        for name, spread in SPREADS.items()
    }
    batches = ((batch['data_samples'], batch['data_samples']) for batch in loader)
    people, predictions = predict(model(), batches, decoders, loader.dataset.metainfo)
    scorer = Scorer(evaluator, people)
    return {name: scorer(*found.load()) for name, found in predictions.items()}, people


def stock(cfg, evaluator, spread):
    """The same by MMPose's evaluator alone."""
    loader, estimator = build_loader(cfg), model()
    with silenced():
        metrics = Evaluator(copy.deepcopy(evaluator))
        metrics.dataset_meta = copy.deepcopy(loader.dataset.metainfo)
        for batch in loader:
            samples = batch['data_samples']
            metrics.process(
                estimator.add_pred_to_datasample(noisy(samples, spread, 0), None, samples)
            )
        return metrics.evaluate(len(loader.dataset))


def coco(cfg, **arguments):
    return dict(cfg.test_evaluator, **arguments)


EVALUATORS = dict(
    coco=lambda cfg: coco(cfg),
    crowdpose=lambda cfg: coco(cfg, iou_type='keypoints_crowd', use_area=False),
    without_file=lambda cfg: dict(type='CocoMetric'),
    converted=lambda cfg: coco(
        cfg,
        gt_converter=dict(num_keypoints=9, mapping=PERMUTED),
        pred_converter=dict(num_keypoints=9, mapping=PERMUTED),
    ),
    several=lambda cfg: [
        coco(cfg),
        coco(cfg, prefix='nine', use_area=False),
        dict(type='PCKAccuracy', thr=0.1, prefix='pck'),
        dict(type='PCKAccuracy', thr=0.2, norm_item=['bbox', 'torso'], prefix='loose'),
        dict(type='NME', norm_mode='keypoint_distance', keypoint_indices=[5, 6]),
        dict(type='EPE'),
        dict(type='AUC'),
    ],
    parts=lambda cfg: dict(
        type='KeypointPartitionMetric',
        metric=dict(type='PCKAccuracy'),
        partitions=dict(head=[0, 1, 2, 3, 4]),
    ),
)


class TestScorer:
    @pytest.mark.parametrize('kind', EVALUATORS)
    def test_every_decoder_equals_stock(self, cfg, kind):
        evaluator = EVALUATORS[kind](cfg)
        found, _ = score(cfg, evaluator)
        for name, spread in SPREADS.items():
            expected = stock(cfg, evaluator, spread)
            own = {key: found[name].metrics[key] for key in expected}
            assert own == pytest.approx(expected, abs=1e-12)
        assert found['exact'].metrics != found['rough'].metrics

    def test_data_set_stays_as_it_is(self, cfg):
        evaluator = EVALUATORS['converted'](cfg)
        _, people = score(cfg, evaluator)
        assert people.metainfo['num_keypoints'] == len(people.metainfo['sigmas']) == 17

    def test_similarity_of_converted_keypoints(self, cfg):
        """Each where the model has it, NaN of those that the metric does not judge."""
        plain, _ = score(cfg, coco(cfg))
        for mapping in (MAPPING, PERMUTED):
            converters = dict(num_keypoints=9, mapping=mapping)
            found, _ = score(cfg, coco(cfg, gt_converter=converters, pred_converter=converters))
            similarity = found['exact'].arrays['similarity']
            assert np.isnan(similarity[:, 9:]).all()
            np.testing.assert_allclose(
                similarity[:, :9], plain['exact'].arrays['similarity'][:, :9], rtol=1e-6
            )

    def test_a_permuted_prediction_is_held_against_its_own_keypoint(self, cfg):
        """Predictions in another order than annotations, put right by `pred_converter`."""
        order = dict(num_keypoints=17, mapping=[(i, 16 - i) for i in range(17)])
        loader = build_loader(cfg)

        def reversed_truth(samples):
            found = noisy(samples, 0, 0)
            for instances in found:
                instances.keypoints = instances.keypoints[:, ::-1].copy()
            return found

        batches = ((batch['data_samples'], batch['data_samples']) for batch in loader)
        people, found = predict(
            model(), batches, dict(reversed=reversed_truth), loader.dataset.metainfo
        )
        scores = Scorer(coco(cfg, pred_converter=order), people)(*found['reversed'].load())
        similarity = scores.arrays['similarity']
        assert np.nanmin(similarity) > 0.99
        np.testing.assert_array_equal(np.isnan(similarity), ~people.visible[:, ::-1])

    def test_metrics_of_coco_write_files_of_their_own(self, cfg, tmp_path):
        loader = build_loader(cfg)
        batches = ((batch['data_samples'], batch['data_samples']) for batch in loader)
        people, found = predict(
            model(), batches, dict(a=lambda s: noisy(s, 0.2, 0)), loader.dataset.metainfo
        )
        halves = coco(cfg, prefix='b', pred_converter=dict(num_keypoints=9, mapping=MAPPING))
        halves['gt_converter'] = halves['pred_converter']
        Scorer([coco(cfg), halves], people)(*found['a'].load(), tmp_path / 'row')
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            'row.1.keypoints.json',
            'row.keypoints.json',
        ]


class TestPeople:
    def test_second_channel_of_visibility_does_not_count(self, cfg):
        """As `KeypointConverter` gives it."""
        plain, people = score(cfg, coco(cfg))
        cfg = copy.deepcopy(cfg)
        same = [(i, i) for i in range(17)]
        converter = dict(type='KeypointConverter', num_keypoints=17, mapping=same)
        cfg.test_dataloader.dataset.pipeline.insert(1, converter)
        found, converted = score(cfg, coco(cfg))
        assert converted.arrays['gt_keypoints_visible'].ndim == 3
        np.testing.assert_array_equal(converted.visible, people.visible)
        np.testing.assert_allclose(
            found['exact'].arrays['similarity'], plain['exact'].arrays['similarity'], rtol=1e-5
        )


def test_annotations_are_read_once(cfg):
    """However many metrics are built for them."""
    path = str(cfg.test_evaluator.ann_file)
    opened = []
    build_metrics(coco(cfg))

    def watch(event, arguments):
        if event == 'open' and arguments[0] == path:
            opened.append(path)

    sys.addaudithook(watch)
    metrics = build_metrics([coco(cfg), coco(cfg, prefix='again')], dict(dataset_name='toy'))
    assert len({id(metric.coco) for metric in metrics}) == 1
    open(path).close()  # the watch works
    assert len(opened) == 1
