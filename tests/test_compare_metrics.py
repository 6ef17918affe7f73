# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Comparisons by errors, over categories and on different test data."""

import contextlib
import copy
import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import run_tool
from mmengine.runner.checkpoint import save_checkpoint
from mmpose.datasets.datasets import AP10KDataset
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.evaluation.metrics import (
    AUC,
    EPE,
    NME,
    CocoMetric,
    CocoWholeBodyMetric,
    JhmdbPCKAccuracy,
    KeypointPartitionMetric,
    MpiiPCKAccuracy,
    PCKAccuracy,
)
from test_compare import HEATMAP, load_run, run_stock

from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.workbench.compare import CompareError, Study, compare, run_study
from mmpose_simcc.workbench.compare.bootstrap import (
    match_predictions,
    resampled,
    resampled_values,
)
from mmpose_simcc.workbench.compare.report import remarks, write_report
from mmpose_simcc.workbench.compare.rows import Training
from mmpose_simcc.workbench.compare.study import check_metric_names
from mmpose_simcc.workbench.metrics import value_names, write_compactly
from mmpose_simcc.workbench.scoring import result_key
from mmpose_simcc.workbench.statistics import average_precision, resample
from mmpose_simcc.workbench.toy import make_toy_coco

FACES = 'mmpose::face_2d_keypoint/topdown_heatmap/300w/td-hm_hrnetv2-w18_8xb64-60e_300w-256x256.py'
FACE_CONFIG = f"""
_base_ = ['{FACES}']
from mmpose_simcc.config import set_representation
set_representation(_base_, codec=dict(type='DARKCodec', input_size=(64, 64), sigma=1.5))
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=18),
    neck=None,
    head=dict(_delete_=True, type='HeatmapHead', in_channels=512, out_channels=68,
              loss=dict(type='KeypointMSELoss', use_target_weight=True),
              decoder=_base_.model.head.decoder))
"""


def write_faces(root, number, seed):
    """Data in 300W's layout: noise with 68 points, two faces in some pictures, some points
    not labelled."""
    rng = np.random.default_rng(seed)
    (root / 'images').mkdir(parents=True)
    images, annotations = [], []
    for image in range(number):
        name = f'{image}.png'
        cv2.imwrite(str(root / 'images' / name), rng.integers(0, 256, (120, 120, 3), np.uint8))
        images.append(dict(id=image, file_name=name, width=120, height=120))
        for _ in range(1 + image % 2):
            keypoints = np.column_stack([rng.uniform(20, 100, (68, 2)), rng.random(68) < 0.9])
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=1,
                    iscrowd=0,
                    keypoints=keypoints.ravel().tolist(),
                    num_keypoints=68,
                    center=[60.0, 60.0],
                    scale=0.5,
                    bbox=[10, 10, 100, 100],
                    area=8000.0,
                )
            )
    (root / 'annotations').mkdir()
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='face')])
    for split in ('train', 'valid'):
        path = root / 'annotations' / f'face_landmarks_300w_{split}.json'
        path.write_text(json.dumps(content))
    return str(root)


def face_run(name, root, folder, seed=0):
    """A model of faces with made-up weights."""
    config = folder / f'{name}.py'
    config.write_text(FACE_CONFIG)
    run = load_run(str(config), root)
    run.cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    torch.manual_seed(seed)
    model = build_model(run.cfg)
    torch.nn.init.normal_(model.head.final_layer.weight, std=0.1)
    run.checkpoint = str(folder / f'{name}.pth')
    save_checkpoint(dict(state_dict=model.state_dict()), run.checkpoint)
    return run


@pytest.fixture(scope='module')
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp('faces')
    run = face_run('faces', write_faces(folder / 'data', 12, 0), folder)
    run.cfg.test_evaluator = [run.cfg.test_evaluator, dict(type='EPE')]
    rows = compare([run], folder / 'work', ['argmax', 'dark'])
    return run, rows


class TestErrors:
    def test_rows_equal_stock_test(self, faces, tmp_path):
        run, rows = faces
        for row in rows:
            codec = dict(run.head.decoder)
            if row.decoder == 'argmax':
                codec = dict(type='HeatmapCodec', refine='none', sigma=1.5)
                codec.update(input_size=(64, 64), heatmap_size=(16, 16))
            metrics = run_stock(run, codec, tmp_path / row.decoder)
            ours = {key: row.metrics[key] for key in metrics}  # beside those of the scores
            assert ours == pytest.approx(metrics, rel=1e-6)

    @pytest.mark.parametrize('key, kind', [('EPE', EPE), ('NME', NME)])
    def test_intervals_equal_the_metric_on_resampled_images(self, faces, key, kind):
        run, rows = faces
        row = rows[1]
        samples = resampled(row.trainings[0], run, key)
        with np.load(f'{row.trainings[0].predictions}.npz') as stored:
            keypoints, img_ids = stored['keypoints'], stored['img_ids']
        annotations = json.loads(run.annotation_files[0].read_text())['annotations']
        truth = np.array([a['keypoints'] for a in annotations]).reshape(-1, 68, 3)
        weights = resample(12)
        for number in range(5):
            metric = kind(norm_mode='keypoint_distance') if kind is NME else kind()
            metric.dataset_meta = dict(dataset_name='300w')
            # an image that is drawn twice counts twice, with all its people
            for person in np.repeat(np.arange(len(img_ids)), weights[number][img_ids]):
                gt = dict(
                    keypoints=truth[person, None, :, :2],
                    keypoints_visible=truth[person, None, :, 2],
                )
                pred = dict(keypoints=keypoints[person, None])
                metric.process([], [dict(pred_instances=pred, gt_instances=gt)])
            expected = metric.compute_metrics(metric.results)[key]
            assert samples[number] == pytest.approx(expected, rel=1e-5)

    def test_right_is_a_tenth_of_the_norm(self, faces):
        """What scores of models of faces are held against."""
        run, rows = faces
        with np.load(f'{rows[1].trainings[0].predictions}.npz') as stored:
            distances, similarity = stored['distances/NME'], stored['similarity']
        known = ~np.isnan(distances)
        assert 0 < np.mean(distances[known] < 0.1) < np.mean(distances[known] < 0.2)
        np.testing.assert_array_equal(similarity[known], distances[known] < 0.1)
        assert np.isnan(similarity[~known]).all()

    @pytest.mark.parametrize('key', ['PCK', 'PCK@0.1'])
    def test_pck_of_mpii_on_resampled_images(self, key, toy_root, tmp_path):
        rng = np.random.default_rng(0)
        distances = rng.exponential(0.3, (40, 16))
        img_ids = np.arange(40) // 2
        np.savez(tmp_path / 'row.npz', **{'distances/PCK': distances}, img_ids=img_ids)
        run = load_run(HEATMAP, toy_root)
        run.cfg.test_evaluator = dict(type='MpiiPCKAccuracy')
        samples = resampled(Training('', str(tmp_path / 'row'), {}), run, key)
        truth = rng.uniform(0, 100, (40, 1, 16, 2))
        found = truth + 10 * np.stack([distances, 0 * distances], -1)[:, None] - 1
        people = [
            dict(pred_coords=p, gt_coords=t, mask=np.ones((1, 16), bool), head_size=[[10.0, 10.0]])
            for p, t in zip(found, truth)
        ]
        for weights, sample in zip(resample(20, 5), samples):
            drawn = np.repeat(np.arange(40), weights[img_ids])
            with contextlib.redirect_stdout(io.StringIO()):
                expected = MpiiPCKAccuracy().compute_metrics([people[i] for i in drawn])
            assert sample == pytest.approx(expected[key], rel=1e-6)

    @pytest.mark.slow
    def test_real_faces(self, shared_dir, tmp_path):
        root = shared_dir / 'data' / 'faces'
        if not root.is_dir():
            pytest.skip('the faces are not here')
        run = face_run('real', str(root), tmp_path)
        run.cfg.test_dataloader.dataset.indices = 40
        study = Study([], decoders=['argmax', 'dark'])
        rows = run_study(study, [run], tmp_path)
        assert all(0 < row.metrics['NME'] < 2 for row in rows)
        paths = write_report(study, [run], rows, tmp_path / 'out')
        assert all(path.stat().st_size > 100 for path in paths)


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=1, val=10, seed=1, workers=1)
    return str(root)


def test_average_precision_over_categories_equals_the_evaluator(toy_root, tmp_path):
    """Toy people of three kinds, as AP-10K has animals of 54, found with noise."""
    path = Path(toy_root, 'annotations/person_keypoints_val2017.json')
    content = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    for annotation in content['annotations']:
        annotation['category_id'] = int(rng.integers(1, 4))
    content['categories'] = [
        dict(content['categories'][0], id=i, name=f'kind {i}') for i in range(1, 5)
    ]
    ann_file = tmp_path / 'kinds.json'
    ann_file.write_text(json.dumps(content))
    run = load_run(HEATMAP, toy_root)
    run.cfg.test_dataloader.dataset.update(type='AP10KDataset', ann_file=str(ann_file))
    run.cfg.test_evaluator.ann_file = str(ann_file)
    metric = resampled_values(run.build_metrics())['coco/AP']
    metric.outfile_prefix = str(tmp_path / 'row')
    metric.dataset_meta = parse_pose_metainfo(AP10KDataset.METAINFO)
    for annotation in content['annotations']:
        keypoints = np.reshape(annotation['keypoints'], (1, 17, 3)).astype(float)
        keypoints[..., :2] += rng.normal(0, rng.uniform(2, 12), (1, 17, 2))
        instances = dict(keypoints=keypoints[..., :2], keypoint_scores=rng.uniform(0.5, 1, (1, 17)))
        sample = dict(
            id=annotation['id'],
            img_id=annotation['image_id'],
            category_id=annotation['category_id'],
            pred_instances=instances,
            gt_instances=dict(bbox_scores=np.ones(1), bbox_scales=np.full((1, 2), 100.0)),
        )
        metric.process([], [sample])
    expected = metric.evaluate(len(content['annotations']))['coco/AP']
    assert 0.05 < expected < 0.95
    training = Training('', str(tmp_path / 'row'), {'coco/AP': expected})
    categories = match_predictions(training, metric)
    assert len(categories) == 4
    ones = np.ones((1, len(content['images'])), int)
    assert average_precision(categories, ones)[0] == pytest.approx(expected, abs=1e-12)
    samples = resampled(training, run, 'coco/AP')
    assert abs(samples.mean() - expected) < 0.1 and samples.std() > 0


def people_of(keypoints, sizes):
    """Predictions a pixel off, of 20 people in a square of 100 pixels."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.uniform(0, 100, (1, keypoints, 2))
        gt = dict(keypoints=truth, keypoints_visible=np.ones((1, keypoints)))
        gt.update(bboxes=np.array([[0.0, 0, 100, 100]]), **sizes)
        pred = dict(keypoints=truth + 1)
        yield dict(pred_instances=pred, gt_instances=gt)


class TestNamesBeforeAnEvaluation:
    """Of every metric of MMPose's stock top-down configs but PoseTrack18's."""

    @pytest.mark.parametrize(
        'metric, keypoints',
        [
            (PCKAccuracy(norm_item=['bbox', 'head', 'torso']), 15),
            (PCKAccuracy(prefix='a'), 15),
            (MpiiPCKAccuracy(), 16),
            (JhmdbPCKAccuracy(norm_item=['bbox', 'torso']), 15),
            (JhmdbPCKAccuracy(norm_item='torso'), 15),
            (EPE(), 15),
            (AUC(), 15),
            (NME('use_norm_item', norm_item='bbox_size'), 15),
        ],
    )
    def test_distances(self, metric, keypoints):
        metric.process([], list(people_of(keypoints, dict(head_size=np.array([[20.0]])))))
        values = metric.evaluate(20)
        assert sorted(values) == sorted(result_key(metric, name) for name in value_names(metric))

    @pytest.mark.parametrize('kind', ['keypoints', 'keypoints_crowd', 'wholebody'])
    def test_coco(self, kind, toy_root, tmp_path):
        content = json.loads(
            Path(toy_root, 'annotations/person_keypoints_val2017.json').read_text()
        )
        for image in content['images']:
            image['crowdIndex'] = 0.5
        for annotation in content['annotations']:
            for part, points in dict(foot=6, face=68, lefthand=21, righthand=21).items():
                annotation[f'{part}_kpts'] = [50, 50, 2] * points
                annotation[f'{part}_valid'] = True
        path = tmp_path / 'people.json'
        path.write_text(json.dumps(content))
        if kind == 'wholebody':
            metric, points = CocoWholeBodyMetric(str(path)), 133
        else:
            metric, points = CocoMetric(str(path), iou_type=kind, use_area=False), 17
        metric.dataset_meta = dict(sigmas=np.full(points, 0.05), num_keypoints=points)
        metric.dataset_meta.update(CLASSES=('person',))
        samples = [
            dict(
                id=annotation['id'],
                img_id=annotation['image_id'],
                category_id=1,
                pred_instances=dict(
                    keypoints=np.full((1, points, 2), 50.0), keypoint_scores=np.ones((1, points))
                ),
                gt_instances=dict(bbox_scores=np.ones(1), bbox_scales=np.full((1, 2), 100.0)),
            )
            for annotation in content['annotations']
        ]
        metric.process([], samples)
        values = metric.evaluate(len(samples))
        assert list(values) == [result_key(metric, name) for name in value_names(metric)]

    def test_not_known(self):
        assert value_names(KeypointPartitionMetric(dict(type='EPE'), dict(a=[0]))) is None


def instances(number, keypoints, boxes):
    """What COCO's metrics hold when they write their results, by image."""
    rng = np.random.default_rng(0)
    images = {}
    for i in range(number):
        instance = dict(id=i, img_id=i // 3, score=rng.random(dtype=np.float32))
        instance['category_id'] = np.array(1)  # as MMPose's data sets have it
        instance['keypoints'] = rng.normal(50, 20, (keypoints, 3)).astype(np.float32)
        if boxes:
            instance['bbox'] = rng.uniform(0, 90, 4)
        images.setdefault(i // 3, []).append(instance)
    return images


class TestWriteCompactly:
    @pytest.mark.parametrize('number', [0, 7])
    @pytest.mark.parametrize(
        'metric, keypoints, boxes',
        [(CocoMetric, 17, True), (CocoMetric, 14, False), (CocoWholeBodyMetric, 133, True)],
    )
    def test_same_content_as_stock(self, metric, keypoints, boxes, number, tmp_path):
        stock, own = (metric(format_only=True, outfile_prefix='unused') for _ in range(2))
        assert write_compactly(own)
        texts = []
        for metric in (stock, own):
            metric.dataset_meta = dict(num_keypoints=keypoints, dataset_name='people')
            metric.results2json(instances(number, keypoints, boxes), str(tmp_path / 'found'))
            texts.append((tmp_path / 'found.keypoints.json').read_text())
        content = json.loads(texts[0])
        assert json.loads(texts[1]) == content and len(content) == number
        assert number == 0 or len(texts[1]) < 0.8 * len(texts[0])
        assert len([*tmp_path.iterdir()]) == 1

    def test_other_metrics_write_as_before(self):
        class Own(CocoMetric):
            def results2json(self, keypoints, outfile_prefix):
                pass

        for metric in (Own(format_only=True, outfile_prefix='unused'), EPE()):
            before = dict(vars(metric))
            assert not write_compactly(metric)
            assert vars(metric) == before


class TestBeforeTraining:
    def test_mistyped_metric(self, toy_root, tmp_path):
        done = run_tool(
            *('compare.py', HEATMAP, '--data', toy_root, '--work-dir', tmp_path),
            *('--metric', 'AP@50'),
        )
        assert (done.returncode, done.stderr) == (
            1,
            'compare: there is no metric AP@50; there are AP, AP50, AP75, AP(M), AP(L), AR\n',
        )
        assert not list(tmp_path.glob('trainings/*'))

    @pytest.mark.parametrize('names', [dict(value='EPE'), dict(columns=['#Params', 'EPE'])])
    def test_mistyped_metric_of_a_study(self, names, toy_root, tmp_path):
        run = load_run(HEATMAP, toy_root)
        run.cfg.test_evaluator = [dict(type='PCKAccuracy', norm_item=['bbox', 'torso'])]
        with pytest.raises(CompareError, match='^there is no metric EPE; there are PCK, tPCK$'):
            run_study(Study([], **names), [run], tmp_path)
        assert not list(tmp_path.glob('trainings/*'))

    @pytest.mark.parametrize('name', ['ECE', 'AUROC'])
    def test_no_truth_for_detected_boxes(self, name, toy_root, tmp_path):
        run = load_run(HEATMAP, toy_root)
        boxes = tmp_path / 'boxes.json'
        boxes.write_text('[]')
        cfg = copy.deepcopy(run.cfg)
        cfg.test_dataloader.dataset.bbox_file = str(boxes)
        cfg.dump(tmp_path / 'config.py')
        done = run_tool(
            *('compare.py', tmp_path / 'config.py', '--metric', name),
            *('--work-dir', tmp_path / 'work'),
        )
        assert (done.returncode, done.stderr) == (
            1,
            f'compare: config: there is no {name} of detected boxes, whose people have no truth: '
            'take the annotated boxes with --gt-boxes\n',
        )
        assert not list(tmp_path.glob('work/trainings/*'))
        for columns in ([name], ['AP', name]):
            with pytest.raises(CompareError, match=f'no {name} of detected boxes.*--gt-boxes'):
                check_metric_names(Study([], columns=columns), [replace(run, cfg=cfg)])
        check_metric_names(Study([], value=name), [run])

    def test_metrics_of_which_the_values_are_not_known(self, toy_root):
        run = load_run(HEATMAP, toy_root)
        partition = dict(type='KeypointPartitionMetric', metric=dict(type='EPE'))
        run.cfg.test_evaluator = [dict(type='EPE'), dict(partition, partitions=dict(a=[0]))]
        check_metric_names(Study([], value='anything'), [run])

    def test_several_data_sets_are_refused(self, toy_root, tmp_path):
        run = load_run(HEATMAP, toy_root)
        run.cfg.test_evaluator = dict(
            type='MultiDatasetEvaluator',
            metrics=[run.cfg.test_evaluator],
            datasets=[run.cfg.test_dataloader.dataset],
        )
        with pytest.raises(CompareError, match='MultiDatasetEvaluator: compare on one data set'):
            compare([run], tmp_path)
        assert not list(tmp_path.glob('trainings/*'))

    def test_metrics_that_cannot_be_built_are_refused(self, toy_root, tmp_path):
        run = load_run(HEATMAP, toy_root)
        run.cfg.test_evaluator = dict(type='NME', norm_mode='head')
        with pytest.raises(CompareError, match='`test_evaluator`: KeyError.*norm_mode'):
            compare([run], tmp_path)
        assert not list(tmp_path.glob('trainings/*'))

    @pytest.mark.parametrize('metric', ['JhmdbPCKAccuracy', 'AUC'])
    def test_metrics_without_intervals(self, metric, toy_root, tmp_path):
        run = load_run(HEATMAP, toy_root)
        run.cfg.test_evaluator = dict(type=metric)
        (line,) = remarks(Study([]), [run])
        assert line.endswith(f'{metric} has no intervals and no verdicts')
