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
from mmpose_simcc.workbench.toy.coco import run_lengths, write_image
from mmpose_simcc.workbench.toy.figure import KEYPOINTS, sample_figure
from mmpose_simcc.workbench.toy.person import draw_person, sample_outfit
from mmpose_simcc.workbench.toy.raster import Canvas, capsule, ellipse, ellipsoid, rounded_hull

SIZE = (64, 80)
FRONT = (0.0, 0.0, 1.0)


def centroid(difference):
    """Centre of mass (x, y) of an image, pixel i at coordinate i."""
    mass = np.abs(difference).sum(-1)
    y, x = np.indices(mass.shape)
    return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()


def painted(surface, size=SIZE):
    canvas = Canvas(np.zeros(size + (3,)))
    canvas.paint(surface, np.full(3, 255.0), 1)
    return canvas.image


class TestRaster:
    """Shapes lie exactly where their coordinates say."""

    @pytest.mark.parametrize('seed', range(5))
    def test_discs(self, seed):
        rng = np.random.default_rng(seed)
        centre = rng.uniform(20, 40, 2)
        radius = rng.uniform(1.5, 9)
        balls = (
            ellipse(SIZE, centre, (radius, radius)),
            capsule(SIZE, centre, centre, radius, radius),
            ellipsoid(SIZE, centre, np.full(3, radius), np.eye(3)),
        )
        for surface in balls:
            image = painted(surface)
            np.testing.assert_allclose(centroid(image), centre, atol=0.02)
            area = image.sum() / (3 * 255)
            assert area == pytest.approx(np.pi * radius**2, rel=0.03)

    @pytest.mark.parametrize('seed', range(5))
    def test_areas(self, seed):
        rng = np.random.default_rng(seed)
        start, end = rng.uniform(15, 45, (2, 2))
        length, r = np.hypot(*(end - start)), rng.uniform(3, 8)
        image = painted(capsule(SIZE, start, end, r, r))
        np.testing.assert_allclose(centroid(image), (start + end) / 2, atol=0.03)
        expected = 2 * r * length + np.pi * r**2
        assert image.sum() / 765 == pytest.approx(expected, rel=0.01)
        # a hull of two balls is a capsule as well; so is one of a rectangle
        corners = start + np.array([(0, 0), (12.3, 0), (12.3, 7.7), (0, 7.7)])
        image = painted(rounded_hull(SIZE, corners, r, (0, 1)))
        np.testing.assert_allclose(centroid(image), corners.mean(0), atol=0.02)
        expected = 12.3 * 7.7 + 2 * r * (12.3 + 7.7) + np.pi * r**2
        assert image.sum() / 765 == pytest.approx(expected, rel=0.01)

    def test_turned_ellipsoid(self):
        """The outline of an ellipsoid against a brute-force shadow."""
        rng = np.random.default_rng(0)
        rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        radii = np.array([6.0, 14.0, 9.0])
        centre = np.array([33.3, 30.8])
        image = painted(ellipsoid(SIZE, centre, radii, rotation))
        ball = rng.standard_normal((200000, 3))
        ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        shadow = (ball * radii) @ rotation.T
        columns = np.flatnonzero(image.sum((0, 2)) > 0)
        rows = np.flatnonzero(image.sum((1, 2)) > 0)
        for low_high, axis in ((columns, 0), (rows, 1)):
            reach = shadow[:, axis].max()
            assert abs(low_high[0] - (centre[axis] - reach)) < 1
            assert abs(low_high[-1] - (centre[axis] + reach)) < 1

    def test_outside(self):
        assert capsule(SIZE, (-50, -50), (-20, -20), 3, 3) is None
        assert ellipse(SIZE, (500, 10), (3, 3)) is None
        # partly outside: nothing is moved inwards
        half = painted(ellipse(SIZE, (0, 30), (8, 8)))
        whole = painted(ellipse(SIZE, (40, 30), (8, 8)))
        np.testing.assert_allclose(half[:, :20], whole[:, 40:60], atol=1e-3)


class TestPerson:
    """A drawn person has its features where the annotation says."""

    @staticmethod
    def seen(keep, number):
        """Figures that ``keep`` accepts, each with its outfit."""
        rng = np.random.default_rng(1)
        while number:
            figure, outfit = sample_figure(rng), sample_outfit(rng)
            if keep(figure):
                number -= 1
                yield rng, figure, outfit

    @staticmethod
    def draw(figure, outfit, origin, scale=300.0):
        canvas = Canvas(np.full((600, 600, 3), 90.0))
        keypoints, labels = draw_person(canvas, figure, outfit, origin, scale, FRONT, 1)
        return canvas, keypoints, labels

    def test_eyes(self):
        """What changes with the irises' colour is centred on the eyes, in
        the mean over many people to a fiftieth of a pixel."""
        offsets = []
        for rng, figure, outfit in self.seen(
            lambda f: f.head[2, 2] > 0.9 and (f.joints['left_eye'][0] > f.joints['right_eye'][0]),
            40,
        ):
            origin = rng.uniform(280, 320, 2)
            dark = outfit._replace(iris=np.zeros(3, np.float32))
            light = outfit._replace(iris=np.full(3, 99, np.float32))
            canvas, keypoints, labels = self.draw(figure, dark, origin)
            change = canvas.image - self.draw(figure, light, origin)[0].image
            for index in (1, 2):
                x, y = np.rint(keypoints[index]).astype(int)
                if canvas.owner[y, x] not in labels[index]:
                    continue
                spot = np.zeros_like(change)
                around = (slice(y - 4, y + 5), slice(x - 4, x + 5))
                spot[around] = change[around]
                total = np.abs(spot).sum()
                if total < 0.98 * np.abs(change).sum() / 2:
                    continue  # a brow, a nose or a hand lies over it
                offsets.append(centroid(spot) - keypoints[index])
        assert len(offsets) > 40
        assert np.abs(np.mean(offsets, 0)).max() < 0.02

    def test_pixel_shift_moves_all(self):
        """Moved by whole pixels, a person is drawn the same elsewhere."""
        for _, figure, outfit in self.seen(lambda f: True, 3):
            one = self.draw(figure, outfit, (300.25, 300.5), 150)
            two = self.draw(figure, outfit, (307.25, 289.5), 150)
            moved = np.roll(one[0].image, (-11, 7), (0, 1))
            np.testing.assert_allclose(moved, two[0].image, atol=2)
            np.testing.assert_allclose(one[1] + (7, -11), two[1], atol=1e-6)

    def test_joints_lie_on_their_limbs(self):
        """The disc around a joint is all limb: its inner half is covered."""
        for _, figure, outfit in self.seen(lambda f: True, 20):
            canvas, keypoints, _ = self.draw(figure, outfit, (300, 300), 200)
            for x, y in keypoints[5:]:
                square = canvas.owner[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
                assert (square > 0).all()

    def test_left_and_right(self):
        """Who faces the viewer has the left hand on the viewer's right and
        a face; who turns the back has neither."""
        faces = backs = 0
        for _, figure, outfit in self.seen(lambda f: True, 60):
            forward = figure.chest[2, 2]
            _, keypoints, labels = self.draw(figure, outfit, (300, 300))
            upright = figure.chest[1, 1] > 0.8
            across = keypoints[5, 0] - keypoints[6, 0]
            if upright and forward > 0.8:
                assert across > 0
            if upright and forward < -0.8:
                assert across < 0
            if figure.head[2, 2] > 0.8:
                faces += 1
                assert labels[0] and labels[1] and labels[2]
            if figure.head[2, 2] < -0.5:
                backs += 1
                assert not (labels[0] or labels[1] or labels[2])
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
        for value, least in ((0, 0.005), (1, 0.1), (2, 0.5)):
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
        with pytest.raises(ValueError, match=f'{name}=-1: must be'):
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
        assert done.stderr.splitlines()[-1].startswith('make_toy_coco: ')
        assert done.stdout == ''
