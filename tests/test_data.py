# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Annotations of other tools, and faults in those that people bring."""

import copy
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from conftest import run_tool
from mmengine.config import Config
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import DATASETS, METRICS
from PIL import Image

from mmpose_simcc.workbench.data import (
    check_annotations,
    check_data,
    import_data,
    measure_sigmas,
    write_samples,
)
from mmpose_simcc.workbench.toy import make_toy_coco
from mmpose_simcc.workbench.toy.person import KEYPOINTS


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'toy'
    make_toy_coco(root, train=8, val=3, seed=1, workers=1)
    return root


@pytest.fixture(scope='module')
def metainfo():
    return parse_pose_metainfo(DATASETS.get('CocoDataset').METAINFO)


@pytest.fixture
def content(toy):
    return json.loads((toy / 'annotations/person_keypoints_train2017.json').read_text())


def errors(content, metainfo, **kwargs):
    return [
        finding.what
        for finding in check_annotations(content, metainfo=metainfo, **kwargs)
        if finding.level == 'error'
    ]


def each(content, change):
    content = copy.deepcopy(content)
    for annotation in content['annotations']:
        change(annotation)
    return content


def swap_names(content):
    names = content['categories'][0]['keypoints']
    content['categories'][0]['keypoints'] = [
        re.sub('left|right', lambda m: 'right' if m[0] == 'left' else 'left', name)
        for name in names
    ]


def corners(annotation):
    x, y, w, h = annotation['bbox']
    annotation['bbox'] = [x, y, x + w, y + h]


def fractions(annotation):
    points = np.reshape(annotation['keypoints'], (-1, 3)) * (1 / 300, 1 / 300, 1)
    annotation['keypoints'] = points.ravel().tolist()


def nested(annotation):
    annotation['keypoints'] = np.reshape(annotation['keypoints'], (-1, 3)).tolist()


FAULTS = {
    'several annotations with the same `id`': lambda a: a.update(id=0),
    'x1, y1, x2, y2': corners,
    'between 0 and 1': fractions,
    '`area` far below': lambda a: a.update(area=1),
    'NaN': lambda a: a['keypoints'].__setitem__(0, float('nan')),
    'one list x1, y1, v1': nested,
    'not a whole number': lambda a: a.update(id=f'{a["id"]}'),
    'without `id`': lambda a: a.pop('id'),
    'without `area`': lambda a: a.pop('area'),
    'without `bbox`': lambda a: a.pop('bbox'),
    'without `keypoints`': lambda a: a.pop('keypoints'),
    'of no picture': lambda a: a.update(image_id=-1),
    '16 keypoints, the metainfo 17': lambda a: a.update(keypoints=a['keypoints'][3:]),
    'without width or height': lambda a: a['bbox'].__setitem__(2, 0),
    'of no category': lambda a: a.update(category_id=7),
    'without a labelled keypoint': lambda a: a['keypoints'].__setitem__(
        slice(2, None, 3), [0] * 17
    ),
    'beside their picture': lambda a: a['bbox'].__setitem__(0, 5000),
}


class TestCheck:
    @pytest.mark.parametrize('what', FAULTS)
    def test_faults_are_named(self, content, metainfo, what):
        assert any(what in error for error in errors(each(content, FAULTS[what]), metainfo))

    def test_pictures(self, content, metainfo, toy):
        content['images'][2]['file_name'] = 'lost.jpg'
        (error,) = errors(content, metainfo, images=toy / 'train2017')
        assert 'pictures that are not in' in error and 'lost.jpg' in error
        content['images'][2]['width'] = None
        assert any('is not a number' in error for error in errors(content, metainfo))
        del content['images'][2]['width']
        assert any('`width`' in error for error in errors(content, metainfo))
        content['images'][1]['id'] = '1'
        assert any('not a whole number' in error for error in errors(content, metainfo))
        assert errors(dict(content, annotations=[]), metainfo)[-1].endswith('of keypoints')

    def test_sizes_of_pictures(self, content, metainfo, toy):
        content['images'][0]['width'] += 1
        found = check_annotations(content, metainfo=metainfo, images=toy / 'train2017')
        (warning,) = [finding for finding in found if 'another size' in finding.what]
        assert warning.number == 1 and content['images'][0]['file_name'] in warning.what

    def test_no_sigmas(self, content, metainfo):
        without = dict(metainfo, sigmas=[])
        (error,) = errors(content, without)
        assert '`sigmas`' in error and not errors(content, without, read_by_metrics=())

    @pytest.mark.parametrize(
        'metric, needed',
        [
            (dict(type='CocoMetric', ann_file=''), {'area'}),
            (dict(type='CocoMetric', ann_file='', use_area=False), set()),
            (
                dict(type='CocoMetric', ann_file='', use_area=False, iou_type='keypoints_crowd'),
                {'crowdIndex', 'num_keypoints'},
            ),
            (dict(type='CocoMetric'), {'area'}),
            (dict(type='PCKAccuracy'), set()),
        ],
        ids=['coco', 'without area', 'crowdpose', 'without a file', 'pck'],
    )
    def test_what_metrics_read(self, config, content, tmp_path, metric, needed):
        """What is missed is an error exactly where MMPose's metric fails without it."""
        file = tmp_path / 'annotations.json'
        if 'ann_file' in metric:
            metric = dict(metric, ann_file=str(file))
        config.test_evaluator = metric
        config.test_dataloader.dataset.update(
            ann_file=str(file), data_prefix=dict(img='train2017/'), test_mode=True
        )
        config.train_dataloader = config.val_dataloader = None
        for image in content['images']:
            image['crowdIndex'] = 0.5
        for key in (None, 'area', 'iscrowd', 'num_keypoints', 'crowdIndex'):
            lacking = copy.deepcopy(content)
            for entry in lacking['images'] + lacking['annotations']:
                entry.pop(key, None)
            file.write_text(json.dumps(lacking))
            found = [f.what for f in check_data(config) if f.level == 'error']
            try:
                self.evaluate(config)
                fails = False
            except (AssertionError, KeyError):
                fails = True
            assert fails == (key in needed)
            assert len(found) == fails and all(f'without `{key}`' in what for what in found)

    def evaluate(self, config):
        """The annotations themselves, by the metric that the config names."""
        dataset = DATASETS.build(dict(config.test_dataloader.dataset, pipeline=[]))
        metric = METRICS.build(config.test_evaluator)
        metric.dataset_meta = dataset.metainfo
        samples = []
        for i in range(len(dataset)):
            sample = dict(dataset.get_data_info(i), ori_shape=(300, 300))
            sample['pred_instances'] = dict(
                keypoints=sample['keypoints'],
                keypoint_scores=np.ones((1, 17)),
                bboxes=sample['bbox'],
                bbox_scores=np.ones(1),
            )
            sample['gt_instances'] = dict(
                keypoints=sample['keypoints'],
                keypoints_visible=sample['keypoints_visible'],
                bboxes=sample['bbox'],
                bbox_scales=sample['bbox'][:, 2:] - sample['bbox'][:, :2],
            )
            samples.append(sample)
        metric.process([], samples)
        return metric.evaluate(len(samples))

    def test_whole_bodies(self, config, content, tmp_path):
        """Whose keypoints lie in five lists."""
        file = tmp_path / 'annotations.json'
        for annotation in content['annotations']:
            x, y, w, h = annotation['bbox']
            for part, points in dict(foot=6, face=68, lefthand=21, righthand=21).items():
                annotation[f'{part}_kpts'] = [x + w / 2, y + h / 2, 2] * points
                annotation[f'{part}_valid'] = True
        content['categories'][0].pop('keypoints')
        config.train_dataloader = config.val_dataloader = None
        dataset = config.test_dataloader.dataset
        dataset.update(
            type='CocoWholeBodyDataset', ann_file=str(file), data_prefix=dict(img='train2017/')
        )
        file.write_text(json.dumps(content))
        assert not [f for f in check_data(config) if f.level == 'error']
        del content['annotations'][0]['foot_kpts']
        file.write_text(json.dumps(content))
        (error,) = [f for f in check_data(config) if f.level == 'error']
        assert 'another number of keypoints than 133' in error.what and error.number == 1
        dataset.type = 'CocoWholeBodyFaceDataset'
        (note,) = check_data(config)
        assert note.what.endswith('not checked')

    def test_sides(self, content, metainfo):
        swap_names(content)
        (error,) = errors(content, metainfo)
        assert "keypoint 1 is 'right_eye', the metainfo says 'left_eye'" in error
        unpaired = dict(metainfo, flip_pairs=[])
        assert any('left_eye' in error and '`swap`' in error for error in errors(content, unpaired))

    def test_sizes(self, content, metainfo):
        """Of the longer side of the boxes in pixels, and in cells after MMPose's crop."""
        findings = check_annotations(content, metainfo=metainfo, pixels_per_cell=(4.0, (64, 64)))
        (note,) = [f.what for f in findings if 'the longer side' in f.what]
        boxes = np.array([a['bbox'] for a in content['annotations']])[:, 2:]
        median = np.median(boxes.max(1))
        assert f'{median:.0f} pixels' in note
        # a square input: the longer side is 64 / 1.25 pixels of it
        assert f'{64 / 1.25 / 4:.0f} cells' in note

    def test_trained_on_the_test_set(self, toy, config):
        assert {finding.level for finding in check_data(config)} == {'note'}
        config.test_dataloader.dataset.update(
            ann_file='annotations/person_keypoints_train2017.json',
            data_prefix=dict(img='train2017/'),
        )
        (finding,) = [f for f in check_data(config) if f.level == 'error']
        assert finding.number == 8 and 'trained on' in finding.what

    @pytest.fixture
    def config(self, toy, repo_root):
        cfg = Config.fromfile(
            next((repo_root / 'configs/body_2d_keypoint/topdown_heatmap/toy_coco').glob('*8-4e*'))
        )
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            cfg[loader].dataset.update(data_root=str(toy))
        return cfg

    def test_samples(self, config, tmp_path):
        """The page holds four pictures a row, the second what the network sees."""
        number = write_samples(config, tmp_path / 'page.html', number=3)
        text = (tmp_path / 'page.html').read_text()
        assert number == 3 and text.count('<img') == 12
        assert text.count('<tr>') == 4

    def test_no_file(self, config):
        config.test_dataloader.dataset.ann_file = 'annotations/none.json'
        with pytest.raises(ValueError, match='test: .*none.json cannot be read: No such file'):
            check_data(config)


class TestSigmas:
    """Annotators who are apart by a known sigma, of two people a picture."""

    @pytest.fixture
    def files(self, tmp_path):
        rng = np.random.default_rng(0)
        self.sigmas = np.array([0.02, 0.05, 0.1])
        area = rng.uniform(500, 5000, 600)
        truth = rng.uniform(0, 40, (600, 3, 2)) + 300 * (np.arange(600) % 2)[:, None, None]
        files = []
        for annotator in range(3):
            # a distance of sigma is sigma / sqrt(2) along each axis
            scale = self.sigmas[:, None] * np.sqrt(area / 2)[:, None, None]
            points = np.dstack([truth + scale * rng.normal(size=truth.shape), np.full((600, 3), 2)])
            order = rng.permutation(600)  # of people in the file
            content = dict(
                images=[dict(id=i, file_name=f'{i}.jpg') for i in range(300)],
                annotations=[
                    dict(image_id=int(p // 2), area=area[p], keypoints=points[p].ravel().tolist())
                    for p in order
                ],
            )
            files.append(tmp_path / f'{annotator}.json')
            files[-1].write_text(json.dumps(content))
        return files

    @pytest.mark.parametrize('number', [2, 3])
    def test_known(self, files, number):
        np.testing.assert_allclose(measure_sigmas(files[:number]), self.sigmas, rtol=0.06)

    def test_refusals(self, files, tmp_path):
        with pytest.raises(ValueError, match='no picture is annotated in two of'):
            measure_sigmas(files[:1])
        (tmp_path / 'list.json').write_text('[1]')
        with pytest.raises(ValueError, match="list.json is not in COCO's keypoint format"):
            measure_sigmas([tmp_path / 'list.json'])


def read(folder, split):
    """Points (N, 17, 3) in the order of COCO, and the content of the file."""
    content = json.loads((folder / 'annotations' / f'{split}.json').read_text())
    points = np.array([a['keypoints'] for a in content['annotations']]).reshape(-1, 17, 3)
    names = content['categories'][0]['keypoints']  # sleap-io sorts those of DeepLabCut
    return points[:, [names.index(name) for name in KEYPOINTS]], content


class TestImport:
    """Drawn people, written in another tool's format and read back."""

    @pytest.fixture(scope='class', autouse=True)
    def sleap_io(self):
        return pytest.importorskip('sleap_io')

    @pytest.fixture(scope='class')
    def source(self, toy):
        return toy / 'annotations/person_keypoints_train2017.json'

    def check(self, out, source, tolerance, drawn=False):
        """Every person of the source is there, with its points, in its picture. ``drawn``: with
        the boxes of the source."""

        def distance_of(annotation, xy):
            points = np.reshape(annotation['keypoints'], (-1, 3))
            points = points[points[:, 2] > 0, :2]
            return np.abs(points - xy).max() if points.shape == xy.shape else np.inf

        original = json.loads(source.read_text())
        expected = np.array([a['keypoints'] for a in original['annotations']]).reshape(-1, 17, 3)
        found, content = [], []
        for split in ('train', 'val'):
            points, file = read(out, split)
            found.append(points)
            content += file['images']
            for annotation in file['annotations']:
                xy = np.reshape(annotation['keypoints'], (17, 3))
                xy = xy[xy[:, 2] > 0, :2]
                x, y, w, h = annotation['bbox']
                assert (xy >= (x - 1e-3, y - 1e-3)).all()
                assert (xy <= (x + w + 1e-3, y + h + 1e-3)).all()
                if drawn:
                    person = min(original['annotations'], key=lambda a: distance_of(a, xy))
                    assert [x, y, w, h] == pytest.approx(person['bbox'], abs=0.01)
                    area = w * h
                else:
                    area = np.ptp(xy, 0).prod()
                assert annotation['area'] == pytest.approx(0.53 * area, rel=1e-3)
            for image in file['images']:
                picture = cv2.imread(str(out / 'images' / image['file_name']))
                assert picture.shape[1::-1] == (image['width'], image['height'])
        found = np.concatenate(found)
        assert len({image['file_name'] for image in content}) == len(original['images']) == 8
        assert len(found) == len(expected)
        for person in expected:
            labelled = person[:, 2] > 0
            distance = np.abs(found[..., :2] - person[:, :2])[:, labelled].max((1, 2))
            best = distance.argmin()
            assert distance[best] < tolerance
            np.testing.assert_array_equal(found[best, :, 2] > 0, labelled)

    def test_coco(self, source, toy, tmp_path):
        report = import_data(source, tmp_path / 'out', images=toy / 'train2017', val=0.25)
        assert report['pictures'] == dict(train=6, val=2)
        assert report['keypoints'] == list(KEYPOINTS)
        assert ('left_eye', 'right_eye') in report['pairs'] and len(report['pairs']) == 8
        self.check(tmp_path / 'out', source, 1e-3, drawn=True)

    @pytest.fixture
    def yolo(self, source, toy, tmp_path):
        """As Ultralytics's coco8-pose: images/train beside labels/train, visibility as 2.0, a
        `path` that is relative to another folder, no names of the keypoints."""
        folder = tmp_path / 'datasets' / 'images' / 'toy'
        original = json.loads(source.read_text())
        for number, image in enumerate(original['images']):
            split = 'train' if number < 6 else 'val'
            for kind in ('images', 'labels'):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
            name = image['file_name']
            shutil.copy(toy / 'train2017' / name, folder / 'images' / split / name)
            lines = []
            size = np.array([image['width'], image['height']])
            for annotation in original['annotations']:
                if annotation['image_id'] == image['id']:
                    x, y, w, h = annotation['bbox']
                    box = [(x + w / 2) / size[0], (y + h / 2) / size[1], w / size[0], h / size[1]]
                    points = np.reshape(annotation['keypoints'], (-1, 3)) / [*size, 1]
                    numbers = [*box, *points.ravel()]
                    lines.append(' '.join(['0', *(f'{value:.6f}' for value in numbers)]))
            label = (folder / 'labels' / split / name).with_suffix('.txt')
            label.write_text('\n'.join(['0 0.5 0.5 0.1 0.1', *lines]))
        swapped = [
            KEYPOINTS.index(re.sub('left|right', lambda m: dict(left='right').get(m[0], 'left'), n))
            for n in KEYPOINTS
        ]
        (folder / 'data.yaml').write_text(
            'path: ../datasets/toy\ntrain: images/train\nval: images/val\ntest: # optional\n'
            f'kpt_shape: [17, 3]\nflip_idx: {swapped}\nnames:\n  0: person\n'
        )
        return folder

    @pytest.mark.parametrize('layout', ['folders', 'list', 'names', 'roboflow'])
    def test_yolo_pose(self, yolo, source, tmp_path, layout):
        path = yolo / 'data.yaml'
        if layout == 'names':
            path.write_text(f'{path.read_text()}kpt_names:\n  0: {list(KEYPOINTS)}\n')
        elif layout == 'list':
            names = [f'./images/train/{p.name}' for p in (yolo / 'images/train').iterdir()]
            (yolo / 'train.txt').write_text('\n'.join(names))
            path.write_text(path.read_text().replace('train: images/train', 'train: train.txt'))
        elif layout == 'roboflow':
            path.write_text(path.read_text().replace(': images', ': ../images'))
        report = import_data(path if layout == 'list' else yolo, tmp_path / 'out')
        assert report['pictures'] == dict(train=6, val=2)
        shown = KEYPOINTS if layout == 'names' else [f'point_{i}' for i in range(17)]
        names = dict(zip(report['keypoints'], KEYPOINTS))
        assert report['keypoints'] == list(shown)
        assert {frozenset(names[n] for n in pair) for pair in report['pairs']} == {
            frozenset({n, n.replace('left', 'right')}) for n in KEYPOINTS if n.startswith('left')
        }
        for split in ('train', 'val'):  # under the names that the check knows
            file = tmp_path / 'out' / 'annotations' / f'{split}.json'
            content = json.loads(file.read_text())
            content['categories'][0]['keypoints'] = list(KEYPOINTS)
            file.write_text(json.dumps(content))
        self.check(tmp_path / 'out', source, 0.01, drawn=True)

    def test_yolo_pose_of_sleap_io(self, source, toy, tmp_path, sleap_io):
        labels = sleap_io.load_coco(source, dataset_root=toy / 'train2017')
        sleap_io.save_ultralytics(labels, str(tmp_path / 'yolo'), verbose=False)
        report = import_data(tmp_path / 'yolo', tmp_path / 'out')
        assert report['keypoints'] == list(KEYPOINTS) and len(report['pairs']) == 8
        assert sum(report['pictures'].values()) == 8

    def test_faults_in_yolo_pose(self, yolo, tmp_path):
        path = yolo / 'data.yaml'
        text = path.read_text()
        for old, new, message in (
            ('[17, 3]', '[17, 2]', r'line 2 of .* has 56 numbers, .* \[17, 2\] means 39'),
            (
                '[17, 3]',
                '[16, 3]',
                '`kpt_shape` has 16 keypoints, `flip_idx` 17, and there are 16 names',
            ),
            ('images/val', 'images/dev', '`val` of data.yaml is images/dev, which is not in'),
            ('kpt_shape: [17, 3]', '', 'no `kpt_shape`'),
        ):
            path.write_text(text.replace(old, new))
            with pytest.raises(ValueError, match=message):
                import_data(yolo, tmp_path / 'out')

    @pytest.fixture
    def label_studio(self, source, tmp_path):
        """Tasks as Label Studio exports them, of uploaded pictures; one is not annotated."""
        original = json.loads(source.read_text())
        tasks = []
        for number, image in enumerate(original['images']):
            result = []
            size = dict(original_width=image['width'], original_height=image['height'])
            for annotation in original['annotations']:
                if annotation['image_id'] != image['id']:
                    continue
                box = f'box{annotation["id"]}'
                x, y, w, h = annotation['bbox']
                value = dict(x=x, y=y, width=w, height=h, rectanglelabels=['person'])
                result.append(dict(id=box, type='rectanglelabels', value=value, **size))
                for name, (x, y, v) in zip(KEYPOINTS, np.reshape(annotation['keypoints'], (-1, 3))):
                    if v:
                        value = dict(x=100 * x / image['width'], y=100 * y / image['height'])
                        value.update(width=0.5, keypointlabels=[name])
                        point = dict(id=f'{box}{name}', type='keypointlabels', value=value, **size)
                        relation = dict(from_id=point['id'], to_id=box, type='relation')
                        result += [point, relation]
            picture = f'/data/upload/1/0a1b2c3d-{image["file_name"]}'
            annotations = [dict(result=result, was_cancelled=False)]
            tasks.append(dict(id=number, data=dict(image=picture), annotations=annotations))
        tasks.append(dict(id=99, data=dict(image='/data/upload/1/none.jpg'), annotations=[]))
        (tmp_path / 'project.json').write_text(json.dumps(tasks))
        return tmp_path / 'project.json'

    def test_label_studio(self, label_studio, source, toy, tmp_path):
        report = import_data(label_studio, tmp_path / 'out', images=toy / 'train2017', val=0.25)
        assert report['keypoints'] == sorted(KEYPOINTS)  # an order that is the same at each import
        self.check(tmp_path / 'out', source, 1e-3)

    def test_faults_in_label_studio(self, label_studio, toy, tmp_path):
        with pytest.raises(ValueError, match='of task 0 is not in .*: name --images'):
            import_data(label_studio, tmp_path / 'out')
        tasks = json.loads(label_studio.read_text())
        for task in tasks:
            for made in task['annotations']:
                made['result'] = [r for r in made['result'] if r['type'] != 'relation']
        label_studio.write_text(json.dumps(tasks))
        with pytest.raises(ValueError, match="has several '.*': relate the points"):
            import_data(label_studio, tmp_path / 'out', images=toy / 'train2017')

    def test_pictures_that_a_phone_turned(self, yolo, tmp_path):
        """Sizes are those of the picture as OpenCV reads it."""
        for path in (yolo / 'images/train').iterdir():
            picture = Image.open(path).resize((96, 64))
            exif = picture.getexif()
            exif[0x0112] = 6
            picture.save(path, exif=exif)
            assert cv2.imread(str(path)).shape[:2] == (96, 64)
        import_data(yolo, tmp_path / 'out')
        content = json.loads((tmp_path / 'out/annotations/train.json').read_text())
        assert {(i['width'], i['height']) for i in content['images']} == {(64, 96)}
        found = check_annotations(content, images=tmp_path / 'out/images')
        assert not [f for f in found if 'another size' in f.what]

    def test_deeplabcut(self, source, toy, tmp_path):
        """A project as DeepLabCut writes it: one animal a picture."""
        original = json.loads(source.read_text())
        first = {a['image_id']: a for a in original['annotations'][::-1]}
        folder = tmp_path / 'project' / 'labeled-data' / 'video'
        folder.mkdir(parents=True)
        bodyparts = '\n'.join(f'- {name}' for name in KEYPOINTS)
        (tmp_path / 'project' / 'config.yaml').write_text(
            f'Task: people\nscorer: me\ndate: Nov30\nmultianimalproject: false\n'
            f'video_sets:\n  video.mp4:\n    crop: 0, 288, 0, 288\nbodyparts:\n{bodyparts}\n'
            'skeleton: []\n'
        )
        header = [
            ['scorer', '', '', *['me'] * 34],
            ['bodyparts', '', '', *np.repeat(KEYPOINTS, 2)],
            ['coords', '', '', *['x', 'y'] * 17],
        ]
        lines = [','.join(row) for row in header]
        for number, image in enumerate(original['images']):
            name = f'img{number:04d}.png'
            picture = cv2.imread(str(toy / 'train2017' / image['file_name']))
            cv2.imwrite(str(folder / name), picture)
            points = np.reshape(first[image['id']]['keypoints'], (17, 3))
            cells = [f'{c}' if v else '' for x, y, v in points for c in (x, y)]
            lines.append(','.join(['labeled-data', 'video', name, *cells]))
        (folder / 'CollectedData_me.csv').write_text('\n'.join(lines) + '\n')
        report = import_data(tmp_path / 'project', tmp_path / 'out', val=0.25)
        assert report['people'] == dict(train=6, val=2)
        expected = dict(original, annotations=list(first.values()))
        path = tmp_path / 'expected.json'
        path.write_text(json.dumps(expected))
        self.check(tmp_path / 'out', path, 1e-3)

    def test_configs_and_metainfo(self, source, toy, tmp_path):
        out = tmp_path / 'out'
        report = import_data(source, out, images=toy / 'train2017', val=0.25)
        for name, head in (('heatmap', 'HeatmapHead'), ('simcc', 'SimCCClassifierHead')):
            cfg = Config.fromfile(out / f'{name}.py')
            assert cfg.model.head.type == head and cfg.model.head.out_channels == 17
            assert tuple(cfg.codec.input_size) == report['input_size']
        assert not [f for f in check_data(cfg) if f.level == 'error']
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        pairs = {
            (KEYPOINTS[i], KEYPOINTS[j]) for i, j in enumerate(dataset.metainfo['flip_indices'])
        }
        assert ('left_knee', 'right_knee') in pairs and ('nose', 'nose') in pairs

    def test_refusals(self, source, toy, tmp_path):
        with pytest.raises(FileExistsError, match='not empty'):
            import_data(source, toy)
        with pytest.raises(ValueError, match='there is no'):
            import_data(tmp_path / 'none.slp', tmp_path / 'out')
        with pytest.raises(ValueError, match='`val`'):
            import_data(source, tmp_path / 'out', val=1)
        with pytest.raises(ValueError, match='no annotated pictures'):
            import_data(source, tmp_path / 'out')  # pictures are elsewhere
        assert not (tmp_path / 'out').exists()


@pytest.mark.slow
@pytest.mark.parametrize('args, status', [((), 2), (('none.py',), 1)])
def test_command_lines(args, status):
    assert run_tool('check_data.py', *args).returncode == status
