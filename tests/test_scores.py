# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What a comparison says of scores, raw and calibrated."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_compare import HEATMAP, SIMCC, with_random_weights
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from mmpose_simcc.codecs.calibration import made_for, save_calibration
from mmpose_simcc.utils.configs import flip_test_of
from mmpose_simcc.workbench.calibration.outputs import own_decoder
from mmpose_simcc.workbench.compare import Study, compare
from mmpose_simcc.workbench.compare.bootstrap import measure
from mmpose_simcc.workbench.compare.report import write_report
from mmpose_simcc.workbench.reliability import reliability
from mmpose_simcc.workbench.statistics import resample
from mmpose_simcc.workbench.toy import make_toy_coco

K = 17
COCO_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1e3


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=60, val=30, seed=1, workers=1)
    return str(root)


@pytest.fixture(scope='module', params=[HEATMAP, SIMCC], ids=['heatmap', 'simcc'])
def calibrated(request, toy_root, tmp_path_factory):
    """A run with made-up weights, and the run that uses a calibration of its scores."""
    folder = tmp_path_factory.mktemp('calibrated')
    run = with_random_weights(request.param, toy_root, folder, gt_boxes=True)
    codec = run.build_codec()
    flip = flip_test_of(run.cfg.model)
    content = dict(
        made_for=dict(made_for(codec), num_keypoints=K, flip_test=flip),
        decoder=own_decoder(codec),
        calibrated_on='some pictures',
        score_maps=[[[0.0, 0.0], [0.05, 0.01 + 0.001 * k], [1.0, 0.1]] for k in range(K)],
    )
    save_calibration(folder / 'scores.json', content)
    using = replace(run, cfg=copy.deepcopy(run.cfg))
    using.cfg.model.head.decoder.calibration = str(folder / 'scores.json')
    return run, using


@pytest.fixture(scope='module')
def compared(calibrated, tmp_path_factory):
    """The run that uses the file, and a row for each of its decoders."""
    _, using = calibrated
    return using, compare([using], tmp_path_factory.mktemp('compare'), None)


class TestRows:
    def test_rows_differ_in_scores_alone(self, compared, tmp_path):
        using, rows = compared
        own = 'quarter' if 'Heatmap' in using.head.decoder.type else 'argmax'
        by_name = {row.decoder: row for row in rows}
        raw, ours = by_name[own], by_name['calibrated']
        assert raw.trainings[0].calibrated_on is None
        assert ours.trainings[0].calibrated_on == 'some pictures'
        assert raw.metrics['PCK'] == ours.metrics['PCK'] > 0
        stored = [np.load(f'{row.trainings[0].predictions}.npz') for row in (raw, ours)]
        np.testing.assert_array_equal(stored[0]['keypoints'], stored[1]['keypoints'])
        np.testing.assert_array_equal(stored[0]['similarity'], stored[1]['similarity'])
        assert (stored[0]['scores'] != stored[1]['scores']).any()

        paths = write_report(Study([], value='ECE'), [using], rows, tmp_path / 'report')
        assert 'scores.png' in [path.name for path in paths]
        page = (tmp_path / 'report' / 'index.html').read_text()
        assert 'calibrated</td>' in page and 'AUROC' in page

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
        run, _ = calibrated
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
