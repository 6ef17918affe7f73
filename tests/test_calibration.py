# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Calibrating a model: what the file makes of it in MMPose is what was judged."""

import copy
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_tool
from mmengine.runner import Runner
from test_calibration_ladder import samples_of, start
from test_compare import HEATMAP, SIMCC, load_run, with_random_weights

from mmpose_simcc.codecs.calibration import Radii, save_calibration
from mmpose_simcc.config import check_config
from mmpose_simcc.models.pose_estimators import calibrated as calibrated_model
from mmpose_simcc.utils.configs import dicts_of_type
from mmpose_simcc.utils.inference import (
    build_model,
    load_weights,
    network_outputs,
    weights_digest,
)
from mmpose_simcc.workbench.calibration import calibrate, summary, tables
from mmpose_simcc.workbench.calibration import people as people_module
from mmpose_simcc.workbench.calibration.calibrate import (
    _choose_pictures,
    notes_of,
    samples_of_people,
)
from mmpose_simcc.workbench.calibration.capture import capture
from mmpose_simcc.workbench.calibration.people import choose_images, draw_annotations
from mmpose_simcc.workbench.calibration.samples import hold_out_half
from mmpose_simcc.workbench.calibration.steps import DecoderStep, OffsetStep
from mmpose_simcc.workbench.compare import compare
from mmpose_simcc.workbench.compare.decoders import decoders_of
from mmpose_simcc.workbench.compare.errors import CompareError
from mmpose_simcc.workbench.scoring import Scorer
from mmpose_simcc.workbench.toy import make_toy_coco


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=40, val=12, seed=1, workers=1)
    return str(root)


@pytest.fixture(scope='module', params=[HEATMAP, SIMCC], ids=['heatmap', 'simcc'])
def calibrated(request, toy_root, tmp_path_factory):
    """A run with made-up weights, what was found, and its file."""
    folder = tmp_path_factory.mktemp('calibrated')
    run = with_random_weights(request.param, toy_root, folder, gt_boxes=True)
    run.cfg.model.test_cfg.flip_test = True
    found = calibrate(run.cfg, run.checkpoint, folder, split='test')
    path = folder / 'decoder.json'
    found.save(path)
    return run, found, path


def predictions(cfg, checkpoint):
    """What MMPose's model predicts of the test data."""
    model = build_model(cfg)
    load_weights(model, checkpoint)
    loader = load_loader(cfg)
    return [s.pred_instances for batch in loader for s in model.test_step(batch)]


def load_loader(cfg):
    return Runner.build_dataloader(cfg.test_dataloader, seed=0)


class TestCalibrate:
    def test_what_it_says(self, calibrated):
        run, found, path = calibrated
        content = json.loads(path.read_text())
        assert content['calibrated_on'].startswith('person_keypoints_val2017.json (12 images')
        assert not found.seen and content['worth'] == 'OKS'
        assert content['made_for']['num_keypoints'] == 17
        model = build_model(run.cfg)
        load_weights(model, run.checkpoint)
        assert content['made_for']['model'] == weights_digest(model)
        titles = ['decoder', 'flip test', 'offset', 'scores', 'radii']
        assert [title for title, _ in summary(found)] == titles == list(content['steps'])
        assert len(list(tables(found))) == 7

    @pytest.mark.parametrize('flip', ['none', 'stock', 'exact'])
    def test_the_model_is_what_was_judged(self, calibrated, flip, tmp_path):
        """MMPose's model with the file, against the keypoints and scores of the ladder."""
        run, found, path = calibrated
        _, outputs, people = capture(run, run.checkpoint)
        samples, _ = samples_of_people(
            people, outputs, run.cfg.test_evaluator, np.arange(len(people)) % 2 > 0
        )
        assert set(outputs) == {'none', 'stock', 'exact'}
        decoding = DecoderStep().fit('dark', replace(found.decoding, flip=flip), samples)
        decoding = OffsetStep().fit('keypoint x, y', replace(decoding, offset=None), samples)
        content = json.loads(path.read_text())
        content.update(decoder=decoding.decoder, offset=decoding.offset.tolist())
        content['made_for']['flip_test'] = flip
        save_calibration(tmp_path / 'c.json', content)
        cfg = copy.deepcopy(run.cfg)
        cfg.model.type = 'CalibratedPoseEstimator'
        cfg.model.head.decoder.calibration = str(tmp_path / 'c.json')
        check_config(cfg)
        instances = predictions(cfg, run.checkpoint)
        keypoints = np.concatenate([each.keypoints for each in instances])
        scores = np.concatenate([each.keypoint_scores for each in instances])
        # DARK on the maps of made-up weights is ill-conditioned here and there
        off = np.abs(keypoints - decoding.keypoints(samples)).max(-1)
        assert np.median(off) < 1e-3 and (off > 0.05).mean() < 0.02
        np.testing.assert_allclose(scores, decoding.scores(samples), atol=1e-4)
        radii = np.concatenate([each.keypoint_radius for each in instances])
        assert radii.shape == (*scores.shape, 2) and (radii[..., 0] <= radii[..., 1]).all()
        expected = Radii(**found.decoding.radii)(scores) * samples.scale[:, :1, None]
        np.testing.assert_allclose(radii, expected, rtol=1e-5)

    def test_the_config_has_another_flip_test(self, calibrated):
        run, found, path = calibrated
        cfg = copy.deepcopy(run.cfg)
        cfg.model.head.decoder.calibration = str(path)
        cfg.model.test_cfg.flip_test = found.decoding.flip == 'none'
        with pytest.raises(ValueError, match='made with the flip test .*CalibratedPoseEstimator'):
            check_config(cfg)
        with pytest.raises(CompareError, match='made with the flip test'):
            decoders_of(replace(run, cfg=cfg))

    def test_other_weights_are_told(self, calibrated, tmp_path, monkeypatch):
        run, _, path = calibrated
        content = json.loads(path.read_text())
        content['made_for']['model'] = 'another'
        save_calibration(tmp_path / 'c.json', content)
        cfg = copy.deepcopy(run.cfg)
        cfg.model.type = 'CalibratedPoseEstimator'
        cfg.model.head.decoder.calibration = str(tmp_path / 'c.json')
        model = build_model(cfg)
        messages = []
        monkeypatch.setattr(calibrated_model, 'print_log', lambda text, *_: messages.append(text))
        for batch in load_loader(cfg):
            model.test_step(batch)
        assert len(messages) == 1 and 'made for other weights' in messages[0]

    def test_needs_a_calibration(self, calibrated):
        cfg = copy.deepcopy(calibrated[0].cfg)
        cfg.model.type = 'CalibratedPoseEstimator'
        with pytest.raises(ValueError, match='`model.head.decoder.calibration` must be given'):
            build_model(cfg)

    def test_rows_raw_and_calibrated(self, calibrated, tmp_path):
        run, found, path = calibrated
        using = replace(run, cfg=copy.deepcopy(run.cfg))
        using.cfg.model.type = 'CalibratedPoseEstimator'
        using.cfg.model.head.decoder.calibration = str(path)
        rows = {row.decoder: row for row in compare([using], tmp_path, ['argmax'])}
        assert set(rows) == {'argmax', 'calibrated'}
        training = rows['calibrated'].trainings[0]
        assert training.calibrated_on == found.content['calibrated_on']
        assert rows['argmax'].trainings[0].calibrated_on is None


def with_stock_udp(cfg):
    """The config with MMPose's own codec for crops by UDP."""
    codec = dict(type='UDPHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=2)
    cfg.model.head.decoder = codec
    cfg.model.test_cfg.flip_test = True
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for affine in dicts_of_type(loader, 'TopdownAffine'):
            affine['use_udp'] = True


def test_exact_flip_of_stock_udp(toy_root, tmp_path):
    """The outputs are those that the model itself decodes."""
    run = with_random_weights(HEATMAP, toy_root, tmp_path, gt_boxes=True, change=with_stock_udp)
    assert run.cfg.model.type == 'ExactFlipPoseEstimator'
    model, outputs, _ = capture(run, run.checkpoint)
    maps = [found for (found,), _ in network_outputs(model, load_loader(run.cfg))]
    maxima = torch.cat(maps).amax((2, 3)).clamp(min=0)  # no peak, no score
    assert (maxima > 0).float().mean() > 0.5
    np.testing.assert_allclose(outputs['exact'].scores, maxima, rtol=1e-5)


class TestNotes:
    def test_annotations_to_one_side(self):
        left = np.array([-0.3, 0.0])
        samples = samples_of(dict(stock=left, exact=left, none=left))
        dark = DecoderStep().fit('dark', start(samples), samples)
        (note,) = notes_of(dark, samples)
        assert note.startswith('predictions lie 0.6') and 'to the left of the annotations' in note

    @pytest.mark.parametrize(
        'exact, none',
        [
            (0.0, 0.0),
            (0.0, 0.3),  # the mirrored picture's answers lie to the other side
            (
                [[0.3, 0], [-0.3, 0], [0.3, 0], [-0.3, 0]],
                [[0.3, 0], [-0.3, 0], [0.3, 0], [-0.3, 0]],
            ),
        ],
    )
    def test_of_other_offsets_there_is_none(self, exact, none):
        samples = samples_of(dict(exact=np.array(exact), none=np.array(none)))
        dark = DecoderStep().fit('dark', start(samples), samples)
        assert notes_of(dark, samples) == []


class TestPeople:
    def test_whole_images_until_there_are_enough(self):
        img_ids = np.repeat(np.arange(50), 3)
        images = choose_images(img_ids, 20)
        assert len(images) == 7 and np.isin(img_ids, images).sum() == 21
        np.testing.assert_array_equal(images, choose_images(img_ids, 20))
        assert len(choose_images(img_ids, 1000)) == 50

    def test_annotations_without_outlines(self, toy_root, tmp_path, monkeypatch):
        path = Path(toy_root, 'annotations', 'person_keypoints_train2017.json')
        assert draw_annotations(path, 20, tmp_path) is None  # they are few
        monkeypatch.setattr(people_module, 'LARGE', 0)
        drawn = json.loads(draw_annotations(path, 20, tmp_path).read_text())
        full = json.loads(path.read_text())
        assert drawn['categories'] == full['categories']
        assert 20 <= len(drawn['annotations']) < 25
        images = {image['id'] for image in drawn['images']}
        kept = [a for a in full['annotations'] if a['image_id'] in images]
        for annotation in kept:
            annotation.pop('segmentation', None)
        assert kept == drawn['annotations']

    def test_metrics_read_what_is_drawn(self, toy_root, tmp_path, monkeypatch):
        """They would hold all of COCO in memory."""
        monkeypatch.setattr(people_module, 'LARGE', 0)
        run = with_random_weights(HEATMAP, toy_root, tmp_path, gt_boxes=True)
        _choose_pictures(run, tmp_path, 'train', None, 20)
        drawn = run.cfg.test_dataloader.dataset.ann_file
        assert Path(drawn).parent == tmp_path
        assert {m['ann_file'] for m in run.cfg.test_evaluator if 'ann_file' in m} == {drawn}

    @pytest.mark.parametrize('text', ['{"annotations": [{]}', '[1, 2'])
    def test_damaged_annotations(self, tmp_path, text, monkeypatch):
        monkeypatch.setattr(people_module, 'LARGE', 0)
        path = tmp_path / 'a.json'
        path.write_text(text)
        with pytest.raises(ValueError, match='is not in COCO format'):
            draw_annotations(path, 5, tmp_path)

    def test_a_part_of_the_people(self, toy_root, tmp_path):
        run = with_random_weights(HEATMAP, toy_root, tmp_path, gt_boxes=True)
        _, outputs, people = capture(run, run.checkpoint, 9)
        assert 9 <= len(people) < 13 and len(next(iter(outputs.values())).scores) == len(people)


class TestTool:
    def test_writes_a_file(self, toy_root, tmp_path):
        run = with_random_weights(SIMCC, toy_root, tmp_path)
        done = run_tool(
            'calibrate.py', SIMCC, run.checkpoint, '--data', toy_root, '--out', 'c.json',
            '--people', 12, '--instance-score', 'keypoint', '--cfg-options',
            'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False',
            cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert 'written: c.json; use it with --cfg-options model.type=Calibrated' in done.stdout
        assert 'the config trains on these pictures' in done.stderr
        assert json.loads((tmp_path / 'c.json').read_text())['instance_score'] == 'keypoint'

    @pytest.mark.parametrize(
        'arguments, message',
        [
            (['--out', 'learned'], r'--out learned must end in \.json'),
            (['--people', '1'], '`people` must be an integer >= 2'),
            (['--ann-file', 'none.json'], 'there is no .*none.json'),
        ],
    )
    def test_one_line_error(self, toy_root, tmp_path, arguments, message):
        checkpoint = with_random_weights(HEATMAP, toy_root, tmp_path).checkpoint
        done = run_tool('calibrate.py', HEATMAP, checkpoint, '--data', toy_root, *arguments)
        assert done.returncode != 0
        assert re.search(message, done.stderr.splitlines()[-1])


class TestMetrics:
    def test_of_the_held_out_part(self, calibrated):
        """COCO's AP on the images of some people is that of a file with these images alone."""
        run, found, _ = calibrated
        assert set(found.metrics) <= {'as it is', 'decoder', 'flip test', 'offset', 'scores'}
        model, outputs, people = capture(run, run.checkpoint)
        held = hold_out_half(people.arrays['img_id'])
        samples, _ = samples_of_people(people, outputs, run.cfg.test_evaluator, held)
        decoding = start(samples)
        rows = np.flatnonzero(held)
        part = people.take(rows)
        assert part.arrays['id'].tolist() == people.arrays['id'][held].tolist()
        evaluator = [
            {**each, 'ann_file': None} if 'ann_file' in each else each
            for each in run.cfg.test_evaluator
        ]
        by_samples = Scorer(evaluator, part)
        expected = by_samples(decoding.keypoints(samples)[held], decoding.scores(samples)[held])
        assert found.metrics['as it is'] == pytest.approx(expected.metrics, abs=1e-9)


class TestRehearsal:
    @pytest.mark.parametrize(
        'evaluator, message',
        [
            (dict(type='NME', norm_mode='use_norm_item', norm_item='no_item'), 'metrics.*no_item'),
            (dict(type='PCKAccuracy', norm_item='torso', thr='0.2'), 'metrics of the decoder'),
        ],
    )
    def test_what_would_fail_after_the_pass(
        self, toy_root, tmp_path, monkeypatch, evaluator, message
    ):
        run = with_random_weights(HEATMAP, toy_root, tmp_path, gt_boxes=True)
        run.cfg.test_evaluator = evaluator
        passes = []
        module = sys.modules[samples_of_people.__module__]
        monkeypatch.setattr(module, 'capture', lambda *arguments: passes.append(arguments))
        with pytest.raises(CompareError, match=message) as error:
            calibrate(run.cfg, run.checkpoint, tmp_path, split='test')
        assert not passes and '\n' not in str(error.value)


def test_no_codec(toy_root, tmp_path):
    run = load_run(HEATMAP, toy_root, True)
    run.cfg.model.head.decoder = dict(
        type='MegviiHeatmap', input_size=(64, 64), heatmap_size=(16, 16), kernel_size=11
    )
    with pytest.raises(CompareError, match='no codec of mmpose_simcc decodes like MegviiHeatmap'):
        calibrate(run.cfg, 'none.pth', tmp_path, split='test')
