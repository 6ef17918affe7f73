# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import hashlib
import json

import cv2
import numpy as np
import pytest
from conftest import run_tool
from mmpose.datasets import CocoDataset
from mmpose.evaluation import CocoMetric
from xtcocotools.coco import COCO

from mmpose_simcc.workbench.toy import draw_scene, make_toy_coco
from mmpose_simcc.workbench.toy.canvas import Canvas
from mmpose_simcc.workbench.toy.coco import run_lengths, write_image
from mmpose_simcc.workbench.toy.person import (
    KEYPOINTS,
    draw_person,
    sample_outfit,
    sample_pose,
)

SIZE = (64, 80)


def painted(*shape):
    """A white capsule on black, (H, W) in 0..1."""
    canvas = Canvas(np.zeros((*SIZE, 3)))
    canvas.capsule(*shape, np.full(3, 1.0), 1)
    return canvas.image[..., 0]


def centroid(mass):
    """Centre of mass (x, y) of an image, pixel i at coordinate i."""
    y, x = np.indices(mass.shape)
    return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()


class TestCanvas:
    """Capsules lie exactly where their coordinates say."""

    @pytest.mark.parametrize('seed', range(5))
    def test_discs(self, seed):
        rng = np.random.default_rng(seed)
        centre, radius = rng.uniform(20, 40, 2), rng.uniform(1.5, 9)
        image = painted(centre, centre, radius, radius)
        np.testing.assert_allclose(centroid(image), centre, atol=0.02)
        assert image.sum() == pytest.approx(np.pi * radius**2, rel=0.03)

    @pytest.mark.parametrize('seed', range(5))
    def test_limbs(self, seed):
        rng = np.random.default_rng(seed)
        start, end = rng.uniform(15, 45, (2, 2))
        length, radius = np.hypot(*(end - start)), rng.uniform(3, 8)
        image = painted(start, end, radius, radius)
        np.testing.assert_allclose(centroid(image), (start + end) / 2, atol=0.03)
        expected = 2 * radius * length + np.pi * radius**2
        assert image.sum() == pytest.approx(expected, rel=0.01)

    def test_outside(self):
        assert not painted((-50, -50), (-20, -20), 3, 3).any()
        # partly outside: nothing is moved inwards
        half, whole = painted((0, 30), (0, 30), 8, 8), painted((40, 30), (40, 30), 8, 8)
        np.testing.assert_allclose(half[:, :20], whole[:, 40:60], atol=1e-3)


class TestPerson:
    """A drawn person has its features where the annotation says."""

    @staticmethod
    def draw(joints, outfit, origin=(300, 300), scale=300.0):
        canvas = Canvas(np.full((600, 600, 3), 90.0))
        return canvas, *draw_person(canvas, joints, outfit, origin, scale, 1)

    def test_eyes(self):
        """What changes with the colour of the eyes is centred on them."""
        rng, offsets = np.random.default_rng(1), []
        while len(offsets) < 40:
            joints, outfit = sample_pose(rng), sample_outfit(rng)
            if joints['nose'][2] < joints['head'][2] + 0.06:
                continue  # turned away: an ear or the outline may lie over an eye
            origin = rng.uniform(280, 320, 2)
            images = []
            for value in (0, 90):
                coloured = outfit._replace(hair=np.full(3, value, np.float32))
                canvas, keypoints, _ = self.draw(joints, coloured, origin)
                images.append(canvas.image)
            change = np.abs(images[0] - images[1]).sum(-1)
            if not change.any():
                continue  # a hand hides the face
            for index in (1, 2):
                x, y = np.rint(keypoints[index]).astype(int)
                spot = np.zeros_like(change)
                spot[y - 5 : y + 6, x - 5 : x + 6] = change[y - 5 : y + 6, x - 5 : x + 6]
                if spot.sum() > 0.48 * change.sum():
                    offsets.append(centroid(spot) - keypoints[index])
        assert np.abs(np.mean(offsets, 0)).max() < 0.02

    def test_pixel_shift_moves_all(self):
        """Moved by whole pixels, a person is drawn the same elsewhere."""
        rng = np.random.default_rng(0)
        joints, outfit = sample_pose(rng), sample_outfit(rng)
        one = self.draw(joints, outfit, (300.25, 300.5), 150)
        two = self.draw(joints, outfit, (307.25, 289.5), 150)
        moved = np.roll(one[0].image, (-11, 7), (0, 1))
        np.testing.assert_allclose(moved, two[0].image, atol=2)
        np.testing.assert_allclose(one[1] + (7, -11), two[1], atol=1e-6)

    def test_joints_lie_on_their_limbs(self):
        """Around a joint all is limb, and without another limb it shows its own."""
        rng = np.random.default_rng(2)
        shown = []
        for _ in range(20):
            canvas, keypoints, seen = self.draw(sample_pose(rng), sample_outfit(rng), scale=200)
            for (x, y), labels in zip(keypoints[5:], seen[5:]):
                square = canvas.owner[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
                assert (square > 0).all()
                shown.append(canvas.owner[round(y), round(x)] in labels)
        assert np.mean(shown) > 0.8

    def test_left_and_right(self):
        """Who faces the viewer has the left hand on the viewer's right and a face; who turns the
        back has neither."""
        rng, faces, backs = np.random.default_rng(3), 0, 0
        for _ in range(80):
            joints = sample_pose(rng)
            _, keypoints, seen = self.draw(joints, sample_outfit(rng))
            across = keypoints[5, 0] - keypoints[6, 0]
            forward = (joints['nose'] - joints['head'])[2] / 0.065
            if forward > 0.9:
                faces += 1
                assert across > 0 and all(seen[:3])
            if forward < -0.8:
                backs += 1
                assert across < 0 and not any(seen[:3])
        assert faces and backs


class TestScene:
    @pytest.fixture(scope='class')
    def scenes(self):
        return [draw_scene(np.random.default_rng(i)) for i in range(60)]

    def test_annotations(self, scenes):
        for scene in scenes:
            h, w = scene.image.shape[:2]
            assert scene.image.dtype == np.uint8
            assert len(scene.people) <= 3
            for person in scene.people:
                x, y, v = person.keypoints.T
                assert set(v) <= {0, 1, 2}
                assert (person.keypoints[v == 0] == 0).all()
                assert ((x > -0.5) & (x < w - 0.5) & (y > -0.5) & (y < h - 0.5)).all()
                np.testing.assert_array_equal(person.keypoints, person.keypoints.round(2))
                # what is visible shows this person
                seen = np.rint(person.keypoints[v == 2, :2]).astype(int)
                assert person.mask[seen[:, 1], seen[:, 0]].all()
                assert tuple(person.bbox) == cv2.boundingRect(person.mask.astype(np.uint8))

    def test_variety(self, scenes):
        people = [p for scene in scenes for p in scene.people]
        assert {len(scene.people) for scene in scenes} >= {1, 2, 3}
        visibility = np.concatenate([p.keypoints[:, 2] for p in people])
        for value, least in ((0, 0.005), (1, 0.07), (2, 0.5)):
            assert (visibility == value).mean() > least
        heights = [p.bbox[3] for p in people]
        assert max(heights) > 2.5 * min(heights)
        assert len({scene.image.shape for scene in scenes}) > 3


def digest(folder):
    """Path -> hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


class TestCoco:
    @pytest.fixture(scope='class')
    def data(self, tmp_path_factory):
        out = tmp_path_factory.mktemp('toy')
        assert make_toy_coco(out, train=9, val=4, seed=3, workers=1)
        return out

    def test_same_seed_same_bytes(self, data, tmp_path):
        again, other = tmp_path / 'again', tmp_path / 'other'
        make_toy_coco(again, train=9, val=4, seed=3, workers=1)
        assert digest(again) == digest(data)
        make_toy_coco(other, train=9, val=4, seed=4, workers=1)
        assert not set(digest(other).values()) & set(digest(data).values())

    @pytest.mark.slow
    def test_processes_draw_the_same_bytes(self, data, tmp_path):
        make_toy_coco(tmp_path, train=9, val=4, seed=3, workers=2)
        assert digest(tmp_path) == digest(data)

    def test_image_depends_on_its_number_alone(self, data, tmp_path):
        entry = write_image(tmp_path, 'train', 3, 5)
        name = entry['image']['file_name']
        assert (tmp_path / name).read_bytes() == (data / 'train2017' / name).read_bytes()
        content = json.loads((data / 'annotations/person_keypoints_train2017.json').read_text())
        assert entry['image'] == content['images'][5]

    def test_finished_data_is_left_alone(self, data):
        before = {p: p.stat().st_mtime_ns for p in data.rglob('*')}
        assert not make_toy_coco(data, train=9, val=4, seed=3)
        assert before == {p: p.stat().st_mtime_ns for p in data.rglob('*')}

    def test_unfinished_data_is_finished(self, data, tmp_path):
        make_toy_coco(tmp_path, train=9, val=4, seed=3, workers=1)
        (tmp_path / 'annotations/person_keypoints_val2017.json').unlink()
        assert make_toy_coco(tmp_path, train=9, val=4, seed=3, workers=1)
        assert digest(tmp_path) == digest(data)

    def test_refuses_what_it_did_not_write(self, data, tmp_path):
        with pytest.raises(FileExistsError, match='seed 3.*wanted.*seed 8'):
            make_toy_coco(data, train=9, val=4, seed=8)
        (tmp_path / 'thesis.tex').write_text('x')
        with pytest.raises(FileExistsError, match='something else'):
            make_toy_coco(tmp_path, train=1, val=1)
        assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']

    @pytest.mark.parametrize('name', ['train', 'val', 'seed', 'workers'])
    def test_bad_numbers(self, tmp_path, name):
        with pytest.raises(ValueError, match=f'`{name}` must be .* got -1'):
            make_toy_coco(tmp_path / 'out', **{name: -1})
        assert not (tmp_path / 'out').exists()

    @pytest.mark.skipif(np.__version__ >= '2', reason='xtcocotools decodes no masks with numpy 2')
    def test_layout_and_masks(self, data):
        """The official API reads the file and the masks."""
        for split, number in (('train', 9), ('val', 4)):
            coco = COCO(str(data / f'annotations/person_keypoints_{split}2017.json'))
            assert len(coco.imgs) == number
            assert coco.cats[1]['keypoints'] == list(KEYPOINTS)
            for image in coco.imgs.values():
                assert image['file_name'] == f'{image["id"]:012d}.jpg'
                pixels = cv2.imread(str(data / f'{split}2017' / image['file_name']))
                assert pixels.shape == (image['height'], image['width'], 3)
            for annotation in coco.anns.values():
                mask = coco.annToMask(annotation)
                assert annotation['area'] == mask.sum()
                assert annotation['bbox'] == list(cv2.boundingRect(mask))
                visible = annotation['keypoints'][2::3]
                assert annotation['num_keypoints'] == np.count_nonzero(visible)

    def test_run_lengths(self):
        mask = np.array([[1, 0, 1], [1, 1, 0]], bool)
        assert run_lengths(mask) == dict(size=[2, 3], counts=[0, 2, 1, 2, 1])
        assert run_lengths(~mask)['counts'] == [2, 1, 2, 1]

    def test_stock_dataset_and_metric(self, data):
        """Through stock CocoDataset and CocoMetric, the truth scores AP 1."""
        file = 'annotations/person_keypoints_val2017.json'
        dataset = CocoDataset(
            ann_file=file,
            data_root=str(data),
            data_prefix=dict(img='val2017/'),
            data_mode='topdown',
            test_mode=True,
        )
        metric = CocoMetric(ann_file=str(data / file))
        metric.dataset_meta = dataset.metainfo
        assert len(dataset) >= 4
        for index in range(len(dataset)):
            sample = dataset.get_data_info(index)
            x0, y0, x1, y1 = sample['bbox'][0]
            metric.process(
                [],
                [
                    dict(
                        id=sample['id'],
                        img_id=sample['img_id'],
                        pred_instances=dict(
                            keypoints=sample['keypoints'],
                            keypoint_scores=np.ones((1, 17)),
                            bbox_scores=np.ones(1),
                        ),
                        gt_instances=dict(bbox_scales=np.array([[x1 - x0, y1 - y0]])),
                    )
                ],
            )
        assert metric.evaluate(len(dataset))['coco/AP'] == pytest.approx(1)


class TestCommandLine:
    @pytest.mark.parametrize('args, status', [(('--train', '0'), 2), ((), 1)])
    def test_errors_are_one_clear_line(self, tmp_path, args, status):
        (tmp_path / 'other').write_text('')
        done = run_tool('make_toy_coco.py', tmp_path, *args)
        assert done.returncode == status
        assert done.stderr.splitlines()[-1].startswith(('make_toy_coco: ', 'make_toy_coco.py: '))
        assert done.stdout == ''
