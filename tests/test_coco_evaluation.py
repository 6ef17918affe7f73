# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The stand-in for xtcocotools gives its figures: against itself where it imports, and
against figures that it gave (version 1.14.3) everywhere."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest

from mmpose_simcc.utils.coco_evaluation import COCO, PARTS, COCOeval

K = dict(keypoints=17, foot_kpts=6, face_kpts=68, lefthand_kpts=21, righthand_kpts=21)
FIGURES = json.loads(
    (Path(__file__).parent / 'golden' / 'coco_evaluation.json').read_text(encoding='utf-8')
)


def draw(seed, parts=('keypoints',), images=12, categories=1, first_id=1, ties=False, found=True):
    """A data set and results on it: crowds, people of all sizes, some without keypoints, some
    without a result, results beside all people, of equal scores and without keypoints."""
    rng = random.Random(seed)
    annotations, results = [], []
    for image in range(images):
        for _ in range(rng.randrange(6)):
            x, y, w, h = (rng.uniform(low, high) for low, high in ((0, 400),) * 2 + ((8, 150),) * 2)
            person = dict(
                id=first_id + len(annotations),
                image_id=image,
                category_id=rng.randrange(categories) + 1,
                bbox=[x, y, w, h],
                area=w * h * rng.uniform(0.3, 0.8),
                iscrowd=int(rng.random() < 0.1),
            )
            shown = rng.random() < 0.9
            for part in parts:
                person[part] = []
                for _ in range(K[part]):
                    person[part] += [x + rng.random() * w, y + rng.random() * h]
                    person[part] += [rng.randrange(3) * shown]
            person['num_keypoints'] = sum(v == 2 for v in person['keypoints'][2::3])
            annotations.append(person)
            for _ in range(rng.randrange(4)):
                result = dict(image_id=image, category_id=person['category_id'])
                result['score'] = rng.choice((0.2, 0.5)) if ties else rng.random()
                far = rng.choice((0, 0.02, 0.1, 0.2))
                empty = rng.random() < 0.1
                for part in parts:
                    result[part] = []
                    for x0, y0 in zip(person[part][::3], person[part][1::3]):
                        dx, dy = rng.gauss(0, far) * w, rng.gauss(0, far) * h
                        result[part] += [x0 + dx, y0 + dy, rng.random() * (not empty)]
                    if len(parts) > 1:
                        result[f'{part.split("_")[0]}_score'] = rng.random()
                if len(parts) > 1:
                    result['wholebody_score'] = rng.random()
                results.append(result)
    data = dict(
        info={},
        images=[dict(id=i, crowdIndex=rng.random()) for i in range(images)],
        categories=[dict(id=i + 1, name=str(i)) for i in range(categories)],
        annotations=annotations,
    )
    return data, results if found else []


WHOLE_BODY = tuple(K)
CASES = {
    'coco': dict(),
    'id_0': dict(first_id=0),
    'equal_scores': dict(ties=True),
    'nobody_found': dict(found=False),
    'many_categories': dict(categories=5, images=40),
    'box_area': dict(options=dict(use_area=False)),
    'other_sigmas': dict(options=dict(sigmas=np.linspace(0.02, 0.1, 17))),
    'crowdpose': dict(kind='keypoints_crowd', images=30, options=dict(use_area=False)),
    **{
        kind: dict(kind=kind, parts=WHOLE_BODY, images=6)
        for kind in PARTS
        if kind not in ('keypoints', 'keypoints_crowd')
    },
}
SIGMAS = {
    part: np.array([random.Random(part).uniform(0.02, 0.1) for _ in range(K[part])]) for part in K
}


def evaluate(coco_class, eval_class, folder, seed, kind='keypoints', options=None, **drawn):
    """An evaluation as MMPose does it."""
    data, results = draw(seed, **drawn)
    options = dict(options or {})
    if drawn.get('parts') == WHOLE_BODY:
        options['sigmas'] = np.concatenate([SIGMAS[part] for part in PARTS[kind]])
    if options.get('use_area') is False:
        for annotation in data['annotations']:
            del annotation['area']
    path = folder / 'data.json'
    path.write_text(json.dumps(data))
    truth = coco_class(str(path))
    found = folder / 'found.json'
    found.write_text(json.dumps(results))
    evaluation = eval_class(truth, truth.loadRes(str(found)), kind, **options)
    evaluation.params.useSegm = None
    evaluation.evaluate()
    by_image = copy.deepcopy(evaluation.evalImgs)
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation, by_image


@pytest.mark.parametrize('name', CASES)
def test_figures_of_xtcocotools(name, tmp_path):
    evaluation, _ = evaluate(COCO, COCOeval, tmp_path, seed=name, **CASES[name])
    np.testing.assert_allclose(evaluation.stats, FIGURES[name], rtol=0, atol=1e-12)
    if name != 'nobody_found':
        assert 0.02 < evaluation.stats[0] < 0.98


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('name', CASES)
def test_all_that_xtcocotools_gives(name, seed, tmp_path):
    """To the last bit."""
    pytest.importorskip('xtcocotools._mask', exc_type=Exception)
    from xtcocotools import coco, cocoeval

    seed = f'{name}{seed}'
    case = CASES[name]
    theirs, their_images = evaluate(coco.COCO, cocoeval.COCOeval, tmp_path, seed, **case)
    ours, our_images = evaluate(COCO, COCOeval, tmp_path, seed, **case)
    np.testing.assert_array_equal(ours.stats, theirs.stats)
    for part in 'precision', 'recall', 'scores':
        np.testing.assert_array_equal(ours.eval[part], theirs.eval[part])
    np.testing.assert_equal(our_images, their_images)
    np.testing.assert_equal(ours.evalImgs, theirs.evalImgs)
    assert ours.params.imgIds == theirs.params.imgIds


class TestCOCO:
    def test_keeps_chosen_keypoints(self):
        data, _ = draw('a')
        before = np.array(data['annotations'][0]['keypoints']).reshape(-1, 3)
        truth = COCO('a.json', test_index=[5, 2], ann_data=copy.deepcopy(data))
        after = np.array(truth.anns[1]['keypoints']).reshape(-1, 3)
        np.testing.assert_array_equal(after, before[[5, 2]])

    def test_says_whether_crowd(self):
        data, _ = draw('a')
        del data['annotations'][0]['iscrowd']
        assert COCO('a.json', ann_data=data).anns[1]['iscrowd'] is False

    def test_results_of_nobody(self):
        data, _ = draw('a')
        truth = COCO('a.json', ann_data=data)
        assert truth.loadRes('found.json', resData=[]).getAnnIds() == []


class TestRefusals:
    def test_kind(self):
        with pytest.raises(ValueError, match="iouType must be one of .*, got 'segm'"):
            COCOeval(iouType='segm')

    def test_area(self, tmp_path):
        data, results = draw('a')
        del data['annotations'][0]['area']
        truth = COCO('a.json', ann_data=data)
        evaluation = COCOeval(truth, truth.loadRes(results))
        with pytest.raises(ValueError, match='annotation 1 has no `area`.*use_area=False'):
            evaluation.evaluate()

    def test_missing_score_of_a_part(self):
        data, results = draw('a', parts=WHOLE_BODY)
        for result in results:
            del result['foot_score']
        truth = COCO('a.json', ann_data=data)
        evaluation = COCOeval(truth, truth.loadRes(results), 'keypoints_foot', SIGMAS['foot_kpts'])
        with pytest.warns(UserWarning, match="no 'foot_score': `score` is used"):
            evaluation.evaluate()
