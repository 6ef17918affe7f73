# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Calibrated scores: the maps, their files, their use in codecs, and what is measured."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_tool
from hypothesis import given
from hypothesis import strategies as st
from mmengine.runner.checkpoint import save_checkpoint
from test_compare import HEATMAP, SIMCC, load_run, with_random_weights
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from mmpose_simcc import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec
from mmpose_simcc.codecs.score_calibration import ScoreCalibration, save_score_calibration
from mmpose_simcc.functional import map_scores
from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.workbench.compare import Study, compare
from mmpose_simcc.workbench.compare.bootstrap import measure
from mmpose_simcc.workbench.compare.report import write_report
from mmpose_simcc.workbench.compare.score_calibration import (
    calibrate_scores,
    choose_maps,
    cross_fit,
    fit_map,
    fit_maps,
)
from mmpose_simcc.workbench.reliability import calibration_error, reliability
from mmpose_simcc.workbench.statistics import resample
from mmpose_simcc.workbench.toy import make_toy_coco

K = 17
COCO_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1e3
CELLS = dict(input_size=(64, 48), heatmap_size=(16, 12), sigma=2.0)
CODECS = dict(
    argmax=(HeatmapCodec, dict(CELLS, refine='none')),
    quarter=(HeatmapCodec, CELLS),
    dark=(DARKCodec, CELLS),
    daec=(DAECCodec, CELLS),
    daec_pairs=(DAECCodec, dict(CELLS, delta=[[1.0, 2.0]] * K)),
    simcc=(SimCCCodec, dict(input_size=(64, 48), sigma=4.0)),
    simcc_maximum=(SimCCCodec, dict(input_size=(64, 48), sigma=4.0, score='maximum')),
)


def rising_knots(seed=0, longest=32, keypoints=K, top=1.0):
    """Maps of different lengths."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in rng.integers(1, longest + 1, keypoints):
        scores = np.unique(rng.uniform(0, top, number).round(5))
        values = np.sort(rng.uniform(0, 1, len(scores)))
        rows.append(np.stack([scores, values], 1).tolist())
    return rows


def interpolated(scores, knots):
    """By numpy, keypoint by keypoint."""
    return np.stack(
        [np.interp(scores[..., k], *np.transpose(row)) for k, row in enumerate(knots)], -1
    )


def network_outputs(codec, batch_size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if isinstance(codec, SimCCCodec):
        shapes = [(batch_size, K, bins) for bins in codec.num_bins]
        return [4 * torch.randn(*shape, generator=generator) for shape in shapes]
    maps = torch.rand(batch_size, K, *codec.heatmap_size[::-1], generator=generator)
    maps *= torch.rand(batch_size, K, 1, 1, generator=generator)
    maps[0, 0] = float('nan')
    maps[0, 1] = -1.0
    return [maps]


class TestMap:
    @pytest.mark.parametrize('dtype', [np.float32, np.float64])
    def test_equals_interpolation_by_keypoint(self, dtype):
        knots = rising_knots()
        calibration = ScoreCalibration(knots)
        scores = np.random.default_rng(1).uniform(-0.5, 1.5, (300, K)).astype(dtype)
        ours = calibration(scores)
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, interpolated(scores, knots), atol=1e-6)
        tensors = calibration(torch.from_numpy(scores))
        assert tensors.dtype == torch.from_numpy(scores).dtype
        # float32 knots may be close to each other
        np.testing.assert_allclose(tensors, ours, atol=1e-9 if dtype == np.float64 else 2e-3)

    @given(st.integers(0, 1000))
    def test_no_score_overtakes_another(self, seed):
        calibration = ScoreCalibration(rising_knots(seed, keypoints=1))
        scores = np.random.default_rng(seed).uniform(-0.2, 1.2, (200, 1)).astype(np.float32)
        for array in (scores, torch.from_numpy(scores)):
            mapped = np.asarray(calibration(array))[np.argsort(scores[:, 0]), 0]
            assert (np.diff(mapped) >= 0).all()
            assert mapped.min() >= 0 and mapped.max() <= 1 + 1e-6

    def test_compiles_whole(self):
        calibration = ScoreCalibration(rising_knots())
        knots, values = map(torch.from_numpy, (calibration.knots, calibration.values))
        scores = torch.rand(4, K, dtype=torch.float64)
        compiled = torch.compile(map_scores, backend='eager', fullgraph=True)
        torch.testing.assert_close(
            compiled(scores, knots, values), map_scores(scores, knots, values)
        )


@pytest.mark.parametrize('name', CODECS)
class TestCodecs:
    def both(self, name, tmp_path):
        type_, arguments = CODECS[name]
        raw = type_(**arguments)
        knots = rising_knots(top=20.0 if name == 'simcc_maximum' else 1.0)
        path = tmp_path / 'scores.json'
        save_score_calibration(path, raw, 'some pictures', knots, {})
        return raw, type_(**arguments, score_calibration=str(path)), knots

    def test_changes_scores_alone(self, name, tmp_path):
        raw, calibrated, knots = self.both(name, tmp_path)
        assert calibrated.score_calibration.about['calibrated_on'] == 'some pictures'
        outputs = network_outputs(raw)
        keypoints, scores = map(np.concatenate, raw.batch_decode(*outputs))
        ours, our_scores = map(np.concatenate, calibrated.batch_decode(*outputs))
        np.testing.assert_array_equal(ours, keypoints)
        np.testing.assert_allclose(our_scores, interpolated(scores, knots), atol=1e-6)
        tensors, tensor_scores = calibrated.decode_tensors(*outputs)
        assert torch.equal(tensors, raw.decode_tensors(*outputs)[0])
        np.testing.assert_allclose(tensor_scores, our_scores, atol=2e-3)
        one, one_scores = calibrated.decode(*[output[2].numpy() for output in outputs])
        np.testing.assert_array_equal(one[0], ours[2])
        np.testing.assert_array_equal(one_scores[0], our_scores[2])

    def test_half_precision(self, name, tmp_path):
        raw, calibrated, knots = self.both(name, tmp_path)
        outputs = [output.bfloat16() for output in network_outputs(raw)]
        _, scores = map(np.concatenate, raw.batch_decode(*outputs))
        _, ours = map(np.concatenate, calibrated.batch_decode(*outputs))
        np.testing.assert_allclose(ours, interpolated(scores, knots), atol=1e-6)

    def test_other_number_of_keypoints(self, name, tmp_path):
        raw, calibrated, _ = self.both(name, tmp_path)
        if name == 'daec_pairs':
            return  # its factors are of 17 keypoints as well
        outputs = [output[:, :9] for output in network_outputs(raw)]
        for function in (calibrated.batch_decode, calibrated.decode_tensors):
            with pytest.raises(ValueError, match='`score_calibration` must be a file for the 9'):
                function(*outputs)


class TestFile:
    def save(self, path, codec=None, knots=None):
        save_score_calibration(
            path, codec or HeatmapCodec(**CELLS), 'pictures', knots or rising_knots(), {}
        )
        return str(path)

    @pytest.mark.parametrize(
        'type_, change, message',
        [
            (DARKCodec, {}, "type='HeatmapCodec', but the codec has type='DARKCodec'"),
            (HeatmapCodec, dict(refine='none'), "refine='quarter', but"),
            (HeatmapCodec, dict(input_size=(128, 96)), r'input_size=\[64, 48\], but'),
            (HeatmapCodec, dict(sigma=3.0), 'sigma=2.0, but'),
            (HeatmapCodec, dict(use_udp=True), 'use_udp=False, but'),
        ],
    )
    def test_of_another_decoder(self, tmp_path, type_, change, message):
        path = self.save(tmp_path / 's.json')
        with pytest.raises(ValueError, match=message):
            type_(**{**CELLS, **change}, score_calibration=path)

    def test_labels_do_not_matter(self, tmp_path):
        path = self.save(tmp_path / 's.json')
        HeatmapCodec(**CELLS, unbiased=True, score_calibration=path)

    def test_factors_matter(self, tmp_path):
        path = self.save(tmp_path / 's.json', DAECCodec(**CELLS, delta=3))
        DAECCodec(**CELLS, delta=3.0, score_calibration=path)
        with pytest.raises(ValueError, match='delta=3.0, but'):
            DAECCodec(**CELLS, score_calibration=path)

    @pytest.mark.parametrize(
        'text, message',
        [
            ('{', 'not JSON'),
            ('[1, 2]', 'holds no calibration of scores'),
            ('{"format": "mmpose_simcc.learned_delta"}', 'holds no calibration of scores'),
        ],
    )
    def test_another_file(self, tmp_path, text, message):
        path = tmp_path / 's.json'
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            HeatmapCodec(**CELLS, score_calibration=str(path))

    def test_missing(self, tmp_path):
        with pytest.raises(ValueError, match='score_calibration.*cannot be read'):
            HeatmapCodec(**CELLS, score_calibration=str(tmp_path / 'none.json'))
        with pytest.raises(ValueError, match='must be the path of a JSON file, but got 3'):
            HeatmapCodec(**CELLS, score_calibration=3)

    @pytest.mark.parametrize(
        'row',
        [
            [[0.5, 0.2], [0.4, 0.3]],
            [[0.4, 0.3], [0.5, 0.2]],
            [[0.4, 0.3], [0.4, 0.5]],
            [[0.4, 0.3], [0.5, 1.2]],
            [[0.4, float('nan')]],
            [],
            ['a'],
            [[0.4]],
        ],
    )
    def test_damaged_map(self, tmp_path, row):
        path = self.save(tmp_path / 's.json', knots=[row] * K)
        with pytest.raises(ValueError, match='`knots` must be for each keypoint pairs'):
            HeatmapCodec(**CELLS, score_calibration=path)


def drawn_scores(number, seed, keypoints=1):
    """Scores whose true worth is their square."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, (number, keypoints))
    return scores, (rng.uniform(0, 1, scores.shape) < scores**2).astype(float)


class TestFit:
    def test_finds_the_worth_of_scores(self):
        points = np.array(fit_map(*(a[:, 0] for a in drawn_scores(20_000, 0))))
        assert len(points) <= 32 and points[0].tolist() == [0, 0]
        assert np.abs(points[:, 1] - points[:, 0] ** 2).max() < 0.05
        fresh, right = (a[:, 0] for a in drawn_scores(20_000, 1))
        assert calibration_error(fresh, right) > 0.15
        assert calibration_error(np.interp(fresh, *points.T), right) < 0.015

    @pytest.mark.parametrize('number', [1, 30, 100, 5000])
    def test_is_a_map_of_any_scores(self, number):
        rng = np.random.default_rng(number)
        for scores in (
            np.ones(number),
            np.zeros(number),
            rng.uniform(-5, 5, number),
            rng.choice([0.3, 0.9, 1.0], number),
        ):
            for right in (np.zeros(number), np.ones(number), rng.uniform(0, 1, number)):
                ScoreCalibration([fit_map(scores, right)])(scores[:, None])

    def test_few_samples_share_a_map(self):
        scores, right = drawn_scores(500, 0, keypoints=3)
        right[50:, 1] = np.nan
        knots, shared = fit_maps(scores, right)
        assert shared == [1]
        known = ~np.isnan(right)
        assert knots[1] == fit_map(scores[known], right[known])
        assert knots[0] == fit_map(scores[:, 0], right[:, 0]) != knots[1]

    def test_judged_on_other_images(self):
        """Where scores mean nothing, a map fitted on the same pictures would look better."""
        rng = np.random.default_rng(0)
        scores = rng.uniform(0, 1, (600, 2))
        right = (rng.uniform(0, 1, scores.shape) < 0.5).astype(float)
        calibrated = cross_fit(scores, right, np.arange(600) // 2)
        same = ScoreCalibration(fit_maps(scores, right)[0])(scores)
        assert reliability(same, right)['AUROC'] > 0.52
        assert reliability(calibrated, right)['AUROC'] < 0.515

    @pytest.mark.parametrize('alike', [True, False])
    def test_maps_of_each_keypoint_where_they_gain(self, alike):
        """The worth of a score differs between keypoints, or it does not."""
        rng = np.random.default_rng(0)
        scores = rng.uniform(0, 1, (400, 3))
        worth = scores if alike else scores * [0.3, 0.6, 1.0]
        right = (rng.uniform(0, 1, scores.shape) < worth).astype(float)
        img_ids = np.arange(400) // 2
        knots, shared, calibrated = choose_maps(scores, right, img_ids)
        assert shared == ([0, 1, 2] if alike else [])
        assert (knots[0] == knots[2]) == alike
        np.testing.assert_array_equal(calibrated, cross_fit(scores, right, img_ids, not alike))


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=60, val=30, seed=1, workers=1)
    return str(root)


@pytest.fixture(scope='module', params=[HEATMAP, SIMCC], ids=['heatmap', 'simcc'])
def calibrated(request, toy_root, tmp_path_factory):
    """A run with made-up weights, the file of its scores, and the run that uses it."""
    folder = tmp_path_factory.mktemp('calibrated')
    run = with_random_weights(request.param, toy_root, folder)
    run.cfg.train_dataloader.dataset.pipeline = []
    found = calibrate_scores(run.cfg, run.checkpoint, folder)
    path = folder / 'scores.json'
    found.save(path)
    using = replace(run, cfg=copy.deepcopy(run.cfg))
    using.cfg.model.head.decoder.score_calibration = str(path)
    return found, run, using


@pytest.fixture(scope='module')
def compared(calibrated, tmp_path_factory):
    """The run that uses the file, and a row for each of its decoders."""
    _, _, using = calibrated
    return using, compare([using], tmp_path_factory.mktemp('compare'), None)


class TestCalibrateScores:
    def test_file_says_what_it_is(self, calibrated):
        found, _, using = calibrated
        content = json.loads(Path(using.cfg.model.head.decoder.score_calibration).read_text())
        assert content['similarity'] == 'OKS'
        assert content['num_keypoints'] == K == len(content['knots'])
        assert content['seen'] and 'held_out.json (12 images' in content['calibrated_on']
        assert content['calibrated_on'].endswith('seen in training')
        assert content['raw']['ECE'] == found.raw['ECE'] > 0
        assert content['shared'] == list(range(K))  # 12 images have less than 100 of each

    def test_rows_differ_in_scores_alone(self, compared, tmp_path):
        using, rows = compared
        names = [row.decoder for row in rows]
        (name,) = (name for name in names if name.endswith(', calibrated'))
        raw, ours = (rows[names.index(n)] for n in (name.partition(',')[0], name))
        assert raw.trainings[0].calibrated_on is None
        assert 'held_out.json' in ours.trainings[0].calibrated_on
        assert raw.metrics['PCK'] == ours.metrics['PCK'] > 0
        assert ours.metrics['ECE'] < raw.metrics['ECE']
        stored = [np.load(f'{row.trainings[0].predictions}.npz') for row in (raw, ours)]
        np.testing.assert_array_equal(stored[0]['keypoints'], stored[1]['keypoints'])
        np.testing.assert_array_equal(stored[0]['similarity'], stored[1]['similarity'])
        assert (stored[0]['scores'] != stored[1]['scores']).any()

        paths = write_report(Study([], value='ECE'), [using], rows, tmp_path / 'report')
        assert 'scores.png' in [path.name for path in paths]
        page = (tmp_path / 'report' / 'index.html').read_text()
        assert f'{name}</td>' in page and 'AUROC' in page

    @pytest.mark.parametrize('key', ['ECE', 'AUROC'])
    def test_resampled(self, compared, key):
        """Of the stored predictions, with the people of a drawn image as often as it is drawn."""
        run, (row, *_) = compared
        if key not in row.metrics:
            pytest.skip('all keypoints are off')
        measured = measure(row, run, key)
        with np.load(f'{row.trainings[0].predictions}.npz') as stored:
            scores, similarity = stored['scores'], stored['similarity']
            images, index = np.unique(stored['img_ids'], return_inverse=True)
        assert measured.images == len(images) and measured.values == [row.metrics[key]]
        assert measured.is_bound == (key == 'ECE')
        for w, found in zip(resample(len(images))[:5, index], measured.samples[0]):
            copies = [np.repeat(a, w, axis=0) for a in (scores, similarity)]
            if key == 'AUROC':
                expected = reliability(*copies).get(key, np.nan)  # all may be off
                assert found == pytest.approx(expected, nan_ok=True)
            else:
                gap = abs(np.nanmean(copies[0] - copies[1]) - np.nanmean(scores - similarity))
                assert found > gap - 1e-6  # that of all keypoints is a sum of those of bins

    def test_similarity_is_cocos(self, compared):
        """The mean over visible keypoints is the OKS by which COCO matches people."""
        run, (row, *_) = compared
        prefix = row.trainings[0].predictions
        dataset = run.cfg.test_dataloader.dataset
        coco = COCO(str(Path(dataset.data_root, dataset.ann_file)))
        evaluation = COCOeval(
            coco,
            coco.loadRes(f'{prefix}.keypoints.json'),
            'keypoints',
            COCO_SIGMAS,
        )
        evaluation.params.useSegm = None
        evaluation.evaluate()
        found = 0
        with np.load(f'{prefix}.npz') as stored:
            for id_, img_id, similarity in zip(
                stored['ids'], stored['img_ids'], stored['similarity']
            ):
                annotations = coco.loadAnns(coco.getAnnIds(int(img_id)))
                if len(annotations) == 1 and annotations[0]['id'] == id_:
                    (oks,) = np.ravel(evaluation.ious[int(img_id), 1])
                    # stored with two decimals of a pixel
                    assert np.nanmean(similarity) == pytest.approx(oks, abs=2e-3)
                    found += 1
        assert found > 5

    def test_no_truth_for_detected_people(self, calibrated, toy_root, tmp_path):
        _, run, _ = calibrated
        run = replace(run, cfg=copy.deepcopy(run.cfg))
        dataset = run.cfg.test_dataloader.dataset
        truth = json.loads(Path(dataset.data_root, dataset.ann_file).read_text())
        boxes = [
            dict(image_id=a['image_id'], bbox=a['bbox'], score=0.9, category_id=1)
            for a in truth['annotations']
        ]
        dataset.bbox_file = str(tmp_path / 'boxes.json')
        Path(dataset.bbox_file).write_text(json.dumps(boxes))
        row = compare([run], tmp_path / 'work', ['argmax'])[0]
        assert not {'ECE', 'AUROC'} & set(row.metrics)


class TestTool:
    def write_config(self, folder, toy_root):
        run = load_run(HEATMAP, toy_root)
        for split in ('train', 'val', 'test'):
            loader = run.cfg[f'{split}_dataloader']
            loader.num_workers = 0
            loader.pop('persistent_workers', None)
        run.cfg.dump(folder / 'config.py')
        torch.manual_seed(0)
        save_checkpoint(dict(state_dict=build_model(run.cfg).state_dict()), str(folder / 'w.pth'))

    def test_says_whether_the_model_has_seen_the_pictures(self, toy_root, tmp_path):
        self.write_config(tmp_path, toy_root)
        command = ('calibrate_scores.py', 'config.py', 'w.pth', '--out', 'out/s.json')
        done = run_tool(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert 'seen in training; a score is the expectation of: OKS' in done.stdout
        assert 'the config trains on these pictures' in done.stderr
        (kept,) = (tmp_path / 'work_dirs/calibrate_scores').glob('*-kept.json')

        option = ('--cfg-options', f'train_dataloader.dataset.ann_file={kept}')
        done = run_tool(*command, *option, cwd=tmp_path)
        assert 'held_out.json (12 images' in done.stdout and 'seen' not in done.stdout
        assert 'the config trains' not in done.stderr
        assert not json.loads((tmp_path / 'out/s.json').read_text())['seen']

        done = run_tool(*command, '--data', 'test', *option, cwd=tmp_path)
        assert 'person_keypoints_val2017.json (30 images' in done.stdout
        assert 'the config trains' not in done.stderr

        use = ('--cfg-options', 'model.head.decoder.score_calibration=out/s.json')
        done = run_tool(*command, *use, 'model.head.decoder.type=DARKCodec', cwd=tmp_path)
        assert 'model.head.decoder.type=DARKCodec' in done.stdout

    def test_clear_lines(self, toy_root, tmp_path):
        self.write_config(tmp_path, toy_root)
        command = ('calibrate_scores.py', 'config.py', 'w.pth', '--out', 's.json')
        for options, line in (
            (('--ann-file', 'none.json'), 'there is no'),
            (
                ('--cfg-options', "test_evaluator=[{'type':'AUC'}]"),
                'has no CocoMetric, PCKAccuracy or NME',
            ),
        ):
            done = run_tool(*command, *options, cwd=tmp_path)
            assert done.returncode == 1 and line in done.stderr
            assert done.stderr.count('\n') <= 2
        assert not (tmp_path / 's.json').exists()
