# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The client of exported models: what it takes and refuses, videos, installed alone."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, run_elsewhere, run_tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmpose_simcc
import mmpose_simcc.deploy.client
from mmpose_simcc.deploy.client import (
    ClientError,
    DetectorInput,
    OneEuroFilter,
    PersonDetector,
    PoseSession,
    Smoother,
    draw_skeleton,
    infer,
)
from mmpose_simcc.deploy.client.inputs import as_bgr
from mmpose_simcc.deploy.client.smooth import box_overlaps
from mmpose_simcc.deploy.client.sources import Video

onnx = pytest.importorskip('onnx')
try:
    import av
except ImportError:
    av = None

needs_av = pytest.mark.skipif(av is None, reason='needs PyAV')
PROJECT = ROOT / 'mmpose_simcc/deploy/client'


# --- a model whose answer is known: where each colour's blob is ---

SIZE = (48, 64)
BLOBS = np.float32([[70.3, 40.6], [90.8, 60.2], [80.1, 75.7]])  # blue, green, red; x and y


def blobs_picture(points=BLOBS, size=(160, 120)):
    """A Gaussian blob in each channel, as the crop of a person might be."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    image = np.stack([np.exp(-((x - u) ** 2 + (y - v) ** 2) / 50) for u, v in points], axis=-1)
    return np.round(image * 255).astype(np.uint8)


def save_centroid_model(path, batch=None, **more):
    """The centroid of each channel as keypoint, its maximum as score."""
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    w, h = SIZE
    constants = dict(
        xs=np.arange(w, dtype=np.float32)[:, None],
        ys=np.arange(h, dtype=np.float32)[:, None],
        full=np.float32(255),
        little=np.float32(1e-3),
        last=np.int64([-1]),
    )
    node = helper.make_node
    nodes = [
        node('Cast', ['input'], ['pixels'], to=1),
        node('Transpose', ['pixels'], ['maps'], perm=[0, 3, 1, 2]),
        node('ReduceMax', ['maps'], ['highest'], axes=[2, 3], keepdims=0),
        node('Div', ['highest', 'full'], ['scores']),
        node('ReduceSum', ['maps', 'axis_y'], ['columns'], keepdims=0),
        node('ReduceSum', ['maps', 'axis_x'], ['rows'], keepdims=0),
        node('ReduceSum', ['rows', 'last'], ['sums'], keepdims=1),
        node('Add', ['sums', 'little'], ['mass']),
        node('MatMul', ['columns', 'xs'], ['x']),
        node('MatMul', ['rows', 'ys'], ['y']),
        node('Concat', ['x', 'y'], ['moments'], axis=-1),
        node('Div', ['moments', 'mass'], ['keypoints']),
    ]
    constants.update(axis_x=np.int64([3]), axis_y=np.int64([2]))
    batch = batch or 'batch'
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        'centroids',
        [value('input', 2, [batch, h, w, 3])],
        [value('keypoints', 1, [batch, 3, 2]), value('scores', 1, [batch, 3])],
        [array(np.asarray(values), name) for name, values in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    about = dict(
        input='uint8',
        output='keypoints',
        input_size=SIZE,
        mean=[0, 0, 0],
        std=[1, 1, 1],
        flip_channels=False,
        use_udp=False,
        bbox_padding=1.25,
        keypoint_names=['blue', 'green', 'red'],
        skeleton=[[0, 1], [1, 2]],
        keypoint_colors=[[255, 0, 0]] * 3,
        skeleton_colors=[[0, 255, 0]] * 2,
        **more,
    )
    helper.set_model_props(proto, {name: json.dumps(value) for name, value in about.items()})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))
    return path


@pytest.fixture(scope='module')
def centroids(tmp_path_factory):
    return save_centroid_model(tmp_path_factory.mktemp('onnx') / 'centroids.onnx')


BOX = [[50, 20, 60, 80]]


class TestInputs:
    def test_keypoints_are_where_the_blobs_are(self, centroids):
        session = PoseSession(centroids)
        keypoints, scores = session.predict(blobs_picture(), [*BOX, [40, 10, 80, 90]])
        assert keypoints.dtype == scores.dtype == np.float32
        np.testing.assert_allclose(keypoints, np.stack([BLOBS] * 2), atol=0.1)
        assert (scores > 0.9).all()

    @pytest.mark.parametrize('flags', [cv2.IMREAD_UNCHANGED, cv2.IMREAD_COLOR])
    @pytest.mark.parametrize('kind', ['grey', 'grey16', 'bgr16', 'bgra', 'bgra16'])
    def test_other_pictures_are_what_opencv_makes_of_them(self, kind, flags, tmp_path):
        """OpenCV reads the same file as it is and as BGR of 8 bits."""
        rng = np.random.default_rng(0)
        channels = dict(grey=1, bgra=4).get(kind.replace('16', ''), 3)
        dtype = np.uint16 if '16' in kind else np.uint8
        stored = rng.integers(0, np.iinfo(dtype).max, (12, 16, channels), endpoint=True)
        path = str(tmp_path / 'a.png')
        assert cv2.imwrite(path, stored.astype(dtype))
        np.testing.assert_array_equal(as_bgr(cv2.imread(path, flags)), cv2.imread(path))

    @pytest.mark.parametrize(
        'image, found',
        [
            (np.zeros((9, 9, 3), np.float32), 'uint8 or uint16, not float32'),
            (np.zeros((9, 9, 3)), 'not float64'),
            (np.zeros((9, 9, 3), bool), 'not bool'),
            (np.zeros((9, 9, 3), np.int64), 'not int64'),
            (None, 'not NoneType'),
            ('a.jpg', 'not str'),
            (np.zeros((9, 9, 2), np.uint8), r'not \(9, 9, 2\)'),
            (np.zeros((3, 9, 9), np.uint8), r'not \(3, 9, 9\)'),
            (np.zeros((1, 9, 9, 3), np.uint8), r'not \(1, 9, 9, 3\)'),
            (np.zeros((0, 9, 3), np.uint8), r'not \(0, 9, 3\)'),
            (np.zeros((9,), np.uint8), r'not \(9,\)'),
            (np.zeros((2, 40000, 3), np.uint8), 'at most 32766 pixels.*not 40000x2'),
        ],
    )
    def test_pictures_that_are_refused(self, image, found, centroids):
        with pytest.raises(ClientError, match=f'^`image` must be [^\n]*{found}$'):
            PoseSession(centroids).predict(image, [[0, 0, 5, 5]])

    @pytest.mark.parametrize(
        'boxes, found',
        [
            (np.ones((4, 5)), r'shape \(4, 5\)'),
            ([1, 2, 3, 4], r'shape \(4,\)'),
            (np.zeros((0, 5)), r'shape \(0, 5\)'),
            ([['a', 'b', 'c', 'd']], 'an array of <U1'),
            ([[1, 2, 3, 4], [1, 2]], 'an array of <U1'),
            (None, 'an array of object'),
            ([[0, 0, 5, 5], [0, 0, 0, 5]], r'\[1\]` must be x, y, w, h with w and h > 0'),
            ([[0, 0, 5, -5]], r'-5'),
            ([[0, np.nan, 5, 5]], 'nan'),
            ([[0, 0, np.inf, 5]], 'inf'),
            ([[0, 0, 1e30, 5]], '1e\\+30'),
            ([[160, 0, 5, 5]], 'on the picture of 160x120 pixels, not .160'),
            ([[0, -5, 5, 5]], '-5'),
        ],
    )
    def test_boxes_that_are_refused(self, boxes, found, centroids):
        with pytest.raises(ClientError, match=f'^`bboxes[^\n]*{found}[^\n]*$'):
            PoseSession(centroids).predict(blobs_picture(), boxes)

    @pytest.mark.parametrize('boxes', [[], np.zeros((0, 4)), ()])
    def test_nobody(self, boxes, centroids):
        keypoints, scores = PoseSession(centroids).predict(blobs_picture(), boxes)
        assert keypoints.shape == (0, 3, 2) and scores.shape == (0, 3)

    @pytest.mark.parametrize(
        'crops', [np.zeros((1, 48, 64, 3), np.uint8), np.zeros((0, 64, 48, 3), np.uint8), [1]]
    )
    def test_crops_that_are_refused(self, crops, centroids):
        with pytest.raises(ClientError, match=r'^`crops` must be uint8 of shape \(B, 64, 48, 3\)'):
            PoseSession(centroids).predict_crops(crops)

    @pytest.mark.parametrize('batch', [None, 4])
    @pytest.mark.parametrize('number', [1, 4, 11])
    def test_many_people_in_chunks(self, batch, number, tmp_path):
        session = PoseSession(save_centroid_model(tmp_path / 'a.onnx', batch), batch_size=3)
        assert session.batch_size == (batch or 3)
        keypoints, scores = session.predict(blobs_picture(), BOX * number)
        assert scores.shape == (number, 3)
        np.testing.assert_allclose(keypoints, np.stack([BLOBS] * number), atol=0.1)


class TestRuntime:
    def test_threads_and_options(self, centroids):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = PoseSession(
            centroids, providers=['CPUExecutionProvider'], threads=1, session_options=options
        )
        used = session.session.get_session_options()
        assert (used.intra_op_num_threads, used.log_severity_level) == (1, 4)

    @pytest.mark.parametrize(
        'arguments, message',
        [
            (dict(providers=['NoProvider']), 'this onnxruntime has no NoProvider; it has .*CPU'),
            (dict(threads=0), '`threads` must be at least 1, not 0'),
            (dict(batch_size=0), '`batch_size` must be at least 1, not 0'),
        ],
    )
    def test_refused(self, arguments, message, centroids):
        with pytest.raises(ClientError, match=message):
            PoseSession(centroids, **arguments)

    def test_version(self, client):
        result = client('--version')
        assert result.stdout.split() == [mmpose_simcc.__version__]
        assert mmpose_simcc.deploy.client.__version__ == mmpose_simcc.__version__


# --- detectors ---


def save_detector(path, boxes=((0, 0, 9, 9, 0.9),), size=64):
    """A detector's file that finds the same boxes in every picture; the last of several is no
    person."""
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    dets = np.float32(boxes)[None]
    labels = np.zeros(dets.shape[:2], np.int64)
    labels[0, 1:][-1:] = 7
    nodes = [
        helper.make_node('ReduceMin', ['input'], ['low'], keepdims=0),
        helper.make_node('Mul', ['low', 'zero'], ['nothing']),
        helper.make_node('Add', ['boxes', 'nothing'], ['dets']),
        helper.make_node('Identity', ['classes'], ['labels']),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        'detector',
        [value('input', 1, [1, 3, size, size])],
        [value('dets', 1, dets.shape), value('labels', 7, labels.shape)],
        [array(dets, 'boxes'), array(labels, 'classes'), array(np.float32(0), 'zero')],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(proto, str(path))
    return path


def write_pipeline(folder, **normalize):
    """As MMDeploy writes it beside a model."""
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', keep_ratio=True, size=[8, 8]),
        dict(type='Pad', size=[8, 8], pad_val=dict(img=[114, 114, 114])),
        dict(type='Normalize', **normalize),
        dict(type='Pad', size_divisor=1),
        dict(type='Collect', keys=['img']),
    ]
    tasks = [
        dict(type='Task', module='Transform', name='Preprocess', transforms=steps),
        dict(type='Task', module='mmdet', name='postprocess', component='ResizeBBox'),
    ]
    (folder / 'pipeline.json').write_text(json.dumps(dict(pipeline=dict(tasks=tasks))))


class TestDetectorInput:
    COLOR = (30.0, 60.0, 200.0)  # blue, green, red

    def means(self, detector):
        feed, ratio = detector.feed(np.full((4, 4, 3), self.COLOR, np.uint8))
        assert ratio == 2
        return feed.mean(axis=(0, 2, 3))

    def test_unknown_is_refused(self, tmp_path):
        path = save_detector(tmp_path / 'det.onnx', size=8)
        with pytest.raises(ClientError, match='does not say how its input is normalised: put .*'):
            PersonDetector(path)
        with pytest.raises(ClientError, match="`input` must be yolox or rtmdet, not 'other'"):
            PersonDetector(path, input='other')

    def test_as_pipeline_json_says(self, tmp_path):
        path = save_detector(tmp_path / 'det.onnx', size=8)
        write_pipeline(tmp_path, mean=[1, 2, 3], std=[10, 20, 30], to_rgb=True)
        expected = [(200 - 1) / 10, (60 - 2) / 20, (30 - 3) / 30]
        np.testing.assert_allclose(self.means(PersonDetector(path)), expected, rtol=1e-5)

    @pytest.mark.parametrize('text', ['', '{}', '[]', '{"pipeline": {"tasks": []}}'])
    def test_another_pipeline_json(self, text, tmp_path):
        path = save_detector(tmp_path / 'det.onnx', size=8)
        (tmp_path / 'pipeline.json').write_text(text)
        with pytest.raises(ClientError, match="pipeline.json is not MMDeploy's description"):
            PersonDetector(path)

    def test_named(self, tmp_path):
        path = save_detector(tmp_path / 'det.onnx', size=8)
        np.testing.assert_allclose(self.means(PersonDetector(path, input='yolox')), self.COLOR)
        expected = [(30 - 103.53) / 57.375, (60 - 116.28) / 57.12, (200 - 123.675) / 58.395]
        rtmdet = PersonDetector(path, input='rtmdet')
        np.testing.assert_allclose(self.means(rtmdet), expected, rtol=1e-5)
        own = PersonDetector(path, input=DetectorInput(to_rgb=True))
        np.testing.assert_allclose(self.means(own), self.COLOR[::-1])


# --- the command, as a user runs it ---


@pytest.fixture
def client(tmp_path):
    """Runs tools/infer_onnx.py in the test's folder."""
    return partial(run_tool, 'infer_onnx.py', cwd=tmp_path)


@pytest.fixture(params=[pytest.param('av', marks=needs_av), 'opencv'])
def encoder(request, monkeypatch):
    """With PyAV, and where it is not installed."""
    if request.param == 'opencv':
        monkeypatch.setitem(sys.modules, 'av', None)
    return request.param


def write_picture(path, size=(160, 120)):
    assert cv2.imwrite(str(path), blobs_picture(size=size))


def read_predictions(tmp_path):
    return json.loads((tmp_path / 'out/predictions.json').read_text())


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


class TestCommand:
    def test_one_picture(self, client, centroids, tmp_path):
        write_picture(tmp_path / 'a.png')
        boxes = ['50,20,60,80', '40,10,80,90']
        result = client(centroids, 'a.png', '--bbox', *boxes, '--out', 'out')
        assert result.returncode == 0, result.stderr
        assert names_in(tmp_path / 'out') == ['a.png', 'predictions.json']
        found = read_predictions(tmp_path)
        assert found['images'] == [dict(id=1, file_name='a.png', width=160, height=120)]
        keypoints = np.reshape([person['keypoints'] for person in found['annotations']], (2, 3, 3))
        np.testing.assert_allclose(keypoints[..., :2], [BLOBS] * 2, atol=0.1)
        assert (keypoints[..., 2] > 0.9).all()

    def test_json_is_coco(self, client, centroids, tmp_path):
        from xtcocotools.coco import COCO

        write_picture(tmp_path / 'a.png')
        assert client(centroids, 'a.png', '--out', 'out').returncode == 0
        coco = COCO(str(tmp_path / 'out/predictions.json'))
        results = coco.loadRes(read_predictions(tmp_path)['annotations'])
        assert len(results.getAnnIds()) == 1
        (category,) = coco.loadCats(1)
        assert category['keypoints'] == ['blue', 'green', 'red']
        assert category['skeleton'] == [[1, 2], [2, 3]]

    def test_folder_with_unreadable_pictures(self, client, centroids, tmp_path):
        folder = tmp_path / 'in'
        folder.mkdir()
        write_picture(folder / 'b.jpg')
        write_picture(folder / 'a.png')
        (folder / 'bad.jpg').write_bytes(b'\xff\xd8 not a picture')
        (folder / 'empty.png').write_bytes(b'')
        (folder / 'notes.txt').write_text('no picture')
        result = client(centroids, 'in', '--out', 'out')
        assert result.returncode == 1
        assert 'infer_onnx: could not be read: bad.jpg, empty.png' in result.stderr
        assert names_in(tmp_path / 'out') == ['a.png', 'b.jpg', 'predictions.json']

    def test_no_readable_picture(self, client, centroids, tmp_path):
        """What an earlier run found stays."""
        (tmp_path / 'bad.jpg').write_bytes(b'\xff\xd8 not a picture')
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out/predictions.json').write_text('earlier')
        result = client(centroids, 'bad.jpg', '--out', 'out')
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == 'infer_onnx: no picture can be read: bad.jpg'
        assert (tmp_path / 'out/predictions.json').read_text() == 'earlier'

    def test_detector(self, client, centroids, tmp_path):
        write_picture(tmp_path / 'a.png', (128, 96))  # twice the detector's
        boxes = [[5, 5, 25, 45, 0.9], [30, 5, 50, 40, 0.8], [1, 1, 9, 9, 0.1], [2, 2, 20, 20, 0.9]]
        save_detector(tmp_path / 'det.onnx', boxes)
        arguments = ('a.png', '--det', 'det.onnx', '--det-input', 'yolox', '--out', 'out')
        result = client(centroids, *arguments)
        assert result.returncode == 0, result.stderr
        found = [person['bbox'] for person in read_predictions(tmp_path)['annotations']]
        np.testing.assert_allclose(found, [[10, 10, 40, 80], [60, 10, 40, 70]], atol=1e-3)
        assert client(centroids, *arguments, '--det-score-thr', '0.95').returncode == 0
        assert read_predictions(tmp_path)['annotations'] == []

    @pytest.mark.parametrize(
        'args, message',
        [
            (('none.onnx', 'a.png'), 'there is no model none.onnx'),
            (('a.png', 'a.png'), 'a.png is no ONNX model'),
            (('det.onnx', 'a.png'), 'det.onnx is another model'),
            (('MODEL', 'none.jpg'), 'there is no none.jpg'),
            (('MODEL', 'a.txt'), 'a.txt is no picture'),
            (('MODEL', 'empty'), 'empty has no pictures'),
            (('MODEL', '97'), 'there is no camera 97'),
            (('MODEL', 'a.png', '--out', '.'), 'holds the input'),
            (('MODEL', 'a.png', '--out', 'a.txt'), 'File exists'),
            (('MODEL', 'a.png', '--det', 'MODEL'), 'no detector'),
            (('MODEL', 'a.png', '--smooth'), 'pictures cannot be smoothed, only a video'),
            (('MODEL', 'a.png', '--circles'), 'has no radii: export a model with a calibration'),
            (('MODEL', 'a.png', '--bbox', '900,1,5,5'), 'a.png: `bboxes[0]` must be'),
        ],
    )
    def test_errors_are_one_line(self, client, centroids, tmp_path, args, message):
        write_picture(tmp_path / 'a.png')
        (tmp_path / 'a.txt').write_text('text')
        (tmp_path / 'empty').mkdir()
        save_detector(tmp_path / 'det.onnx', [[1, 1, 9, 9, 0.9]])
        result = client(*(centroids if arg == 'MODEL' else arg for arg in args))
        assert result.returncode == 1
        last = result.stderr.splitlines()[-1]
        assert last.startswith('infer_onnx: ') and message in last
        assert result.stderr.count('infer_onnx: ') == 1

    @pytest.mark.parametrize('box', ['1,2,3', 'a,b,c,d', '1,2,0,4', 'nan,1,2,3'])
    def test_bad_box(self, client, box):
        result = client('a.onnx', 'a.jpg', '--bbox', box)
        assert result.returncode == 2
        assert repr(box) in result.stderr

    def test_full_disk_keeps_what_was_found(self, client, centroids, tmp_path, small_disk):
        folder = tmp_path / 'in'
        folder.mkdir()
        write_picture(folder / 'a.jpg')
        assert client(centroids, 'in', '--out', small_disk).returncode == 0
        before = (small_disk / 'predictions.json').read_bytes()
        noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), np.uint8)
        cv2.imwrite(str(folder / 'big.png'), noise)
        result = client(centroids, 'in', '--out', small_disk)
        assert result.returncode == 1
        assert re.match('infer_onnx: .*No space left.*big.png', result.stderr.splitlines()[-1])
        assert (small_disk / 'predictions.json').read_bytes() == before
        assert json.loads(before)['images'][0]['file_name'] == 'a.jpg'

    def test_full_disk_while_writing_a_video(
        self, client, centroids, encoder, tmp_path, small_disk
    ):
        writer = cv2.VideoWriter(
            str(tmp_path / 'a.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (640, 480)
        )
        rng = np.random.default_rng(0)
        for _ in range(12):
            noise = rng.integers(0, 256, (120, 160, 3), np.uint8)
            writer.write(cv2.resize(noise, (640, 480)))
        writer.release()
        result = client(centroids, 'a.avi', '--out', small_disk)
        assert result.returncode == 1
        last = result.stderr.splitlines()[-1]
        assert re.match('infer_onnx: .*(No space left|frames could be written).*a.mp4', last)
        assert not list(small_disk.iterdir())

    def test_read_only_folder(self, client, centroids, tmp_path, read_only):
        write_picture(tmp_path / 'a.png')
        folder = read_only()
        for out in (folder, folder / 'new'):
            result = client(centroids, 'a.png', '--out', out)
            assert result.returncode == 1
            last = result.stderr.splitlines()[-1]
            assert re.match('infer_onnx: .*Read-only file system.*small_disk', last)


class TestModelFile:
    def test_truncated(self, centroids, tmp_path):
        content = centroids.read_bytes()
        path = tmp_path / 'half.onnx'
        for size in range(0, len(content), 7):
            path.write_bytes(content[:size])
            with pytest.raises(ClientError, match='half.onnx'):
                PoseSession(path)

    def test_metadata_of_other_programs(self, centroids, tmp_path):
        proto = onnx.load(str(centroids))
        for name, value in [('author', 'A. Person'), ('onnx.infer', 'onnxruntime.quant')]:
            proto.metadata_props.add(key=name, value=value)
        onnx.save(proto, str(tmp_path / 'a.onnx'))
        assert PoseSession(tmp_path / 'a.onnx').metadata == PoseSession(centroids).metadata

    @pytest.mark.parametrize(
        'name, values',
        [
            ('keypoint_radii', dict(edges=[[0.5]] * 3, pixels=[[[1, 2]]] * 3)),
            ('keypoint_radii', [1, 2]),
            ('instance_score', 'best'),
        ],
    )
    def test_damaged_calibration(self, name, values, tmp_path):
        path = save_centroid_model(tmp_path / 'a.onnx', **{name: values})
        with pytest.raises(ClientError, match=f'a.onnx: the metadata are damaged: {name}'):
            PoseSession(path)

    @settings(
        deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_metadata_of_another_model(self, centroids, tmp_path, data):
        """An error that names them, or a model that works."""
        proto = onnx.load(str(centroids))
        item = data.draw(st.sampled_from(proto.metadata_props))
        number = st.integers(-3, 300) | st.floats()
        value = data.draw(
            st.one_of(
                st.none(),
                st.booleans(),
                number,
                st.text(max_size=4),
                st.lists(number, max_size=4),
                st.lists(st.lists(st.integers(-2, 300), max_size=4), max_size=4),
                st.sampled_from(['float', 'bgr', 'uint8', 'simcc', 'keypoints', 'raw']),
            )
        )
        item.value = data.draw(st.sampled_from([json.dumps(value), 'no JSON', '']))
        path = tmp_path / 'other.onnx'
        onnx.save(proto, str(path))
        try:
            session = PoseSession(path)
        except ClientError as error:
            message = str(error)
            assert 'other.onnx' in message
            # another output than it has needs other metadata than it has
            assert item.key in message or item.key == 'output' or 'another model' in message
            return
        if session.metadata['output'] == 'raw':
            return
        image = blobs_picture()
        keypoints, scores = session.predict(image, [[0, 0, 160, 120]])
        assert keypoints.shape == (1, 3, 2) and scores.shape == (1, 3)
        assert np.isfinite(keypoints).all() and np.isfinite(scores).all()
        draw_skeleton(image, keypoints[0], scores[0], session, 0.0)


# --- videos ---


def write_avi(path, number=5, size=(160, 120), rate=10):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MPNG'), rate, size)
    for step in range(number):
        writer.write(blobs_picture(BLOBS + step, size))
    writer.release()


def write_mp4(path, times, size=(160, 120)):
    """A frame at each of these times, without loss; OpenCV's writer would cut odd sizes."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('png', rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, 'rgb24'
        stream.codec_context.time_base = Fraction(1, 90000)
        for step, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(blobs_picture(BLOBS + step, size), format='bgr24')
            frame = frame.reformat(format='rgb24')
            frame.pts, frame.time_base = round(seconds * 90000), Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class TestVideo:
    def test_frames_and_keypoints(self, client, centroids, encoder, tmp_path):
        write_avi(tmp_path / 'a.avi')
        result = client(centroids, 'a.avi', '--bbox', '50,20,60,80', '--out', 'out')
        assert result.returncode == 0, result.stderr
        assert ('pip install av' in result.stderr) == (encoder == 'opencv')
        found = read_predictions(tmp_path)
        assert [(image['frame'], image['time']) for image in found['images']] == [
            (1 + step, pytest.approx(step / 10)) for step in range(5)
        ]
        for step, person in enumerate(found['annotations']):
            assert (person['image_id'], person['id']) == (step + 1, step + 1)
            keypoints = np.reshape(person['keypoints'], (3, 3))[:, :2]
            np.testing.assert_allclose(keypoints, BLOBS + step, atol=0.1)
        drawn = Video(str(tmp_path / 'out/a.mp4'))
        codec = int(drawn.capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, 'little')
        assert codec == dict(av=b'h264', opencv=b'FMP4')[encoder]
        assert len(list(drawn)) == 5

    @needs_av
    def test_variable_rate_keeps_its_times(self, client, centroids, encoder, tmp_path):
        times = [0, 0.033, 0.066, 0.5, 0.6, 1.5, 1.533, 2.0]
        write_mp4(tmp_path / 'a.mp4', times)
        assert client(centroids, 'a.mp4', '--out', 'out').returncode == 0
        found = read_predictions(tmp_path)
        np.testing.assert_allclose([image['time'] for image in found['images']], times, atol=1e-3)
        drawn = [frame.time for frame in Video(str(tmp_path / 'out/a.mp4'))]
        # at a constant rate, within a frame of it
        assert drawn[-1] == pytest.approx(2.0, abs=1e-3 if encoder == 'av' else 0.25)
        if encoder == 'av':
            np.testing.assert_allclose(drawn, times, atol=1e-3)

    @needs_av
    def test_odd_sizes(self, client, centroids, encoder, tmp_path):
        write_mp4(tmp_path / 'a.mp4', [0, 0.1, 0.2], size=(161, 121))
        result = client(centroids, 'a.mp4', '--out', 'out')
        assert 'a.mp4 is 162x122, not 161x121' in result.stderr
        frame = next(iter(Video(str(tmp_path / 'out/a.mp4'))))
        assert frame.image.shape == (122, 162, 3)

    def test_no_frame_is_an_error(self, client, centroids, tmp_path):
        """A file whose frames cannot be decoded; what an earlier run found stays."""
        write_avi(tmp_path / 'a.avi')
        content = (tmp_path / 'a.avi').read_bytes()
        first = content.index(b'movi') + 4
        last = content.index(b'idx1')
        (tmp_path / 'a.avi').write_bytes(content[:first] + bytes(last - first) + content[last:])
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out/predictions.json').write_text('earlier')
        result = client(centroids, 'a.avi', '--out', 'out')
        assert result.returncode == 1
        assert 'infer_onnx: no frame of a.avi can be read, 5 are announced' in result.stderr
        assert [path.name for path in (tmp_path / 'out').iterdir()] == ['predictions.json']
        assert (tmp_path / 'out/predictions.json').read_text() == 'earlier'

    def test_fewer_frames_are_a_warning(self, client, centroids, tmp_path):
        write_avi(tmp_path / 'a.avi', number=20)
        content = (tmp_path / 'a.avi').read_bytes()
        (tmp_path / 'a.avi').write_bytes(content[: len(content) // 2])
        result = client(centroids, 'a.avi', '--out', 'out')
        assert result.returncode == 0, result.stderr
        read = len(read_predictions(tmp_path)['images'])
        assert 0 < read < 20
        warning = f'warning: a.avi announces 20 frames, {read} could be read'
        assert warning in result.stderr.splitlines()

    def test_url(self, client, centroids, tmp_path):
        write_avi(tmp_path / 'a.avi')
        result = client(centroids, f'file://{tmp_path}/a.avi', '--out', 'out')
        assert result.returncode == 0, result.stderr
        assert (tmp_path / 'out/a.mp4').is_file()
        assert len(read_predictions(tmp_path)['images']) == 5

    def test_links_stay(self, centroids, encoder, tmp_path):
        """The folder may hold links to files elsewhere that others may not read."""
        write_avi(tmp_path / 'a.avi')
        for folder in ('out', 'elsewhere'):
            (tmp_path / folder).mkdir()
        for name in ('predictions.json', 'a.mp4'):
            (tmp_path / 'elsewhere' / name).touch(0o600)
            (tmp_path / 'out' / name).symlink_to(tmp_path / 'elsewhere' / name)
        infer(PoseSession(centroids), tmp_path / 'a.avi', tmp_path / 'out')
        for name in ('predictions.json', 'a.mp4'):
            status = (tmp_path / 'elsewhere' / name).stat()
            assert status.st_size and status.st_mode & 0o777 == 0o600
            assert (tmp_path / 'out' / name).is_symlink()

    def test_smoothed(self, client, centroids, tmp_path):
        write_avi(tmp_path / 'a.avi')
        boxes = ['50,20,60,80', '45,20,60,80']
        assert (
            client(centroids, 'a.avi', '--bbox', *boxes, '--smooth', '--out', 'out').returncode == 0
        )
        found = read_predictions(tmp_path)['annotations']
        assert [person['track_id'] for person in found] == [1, 2] * 5
        last = np.reshape(found[-1]['keypoints'], (3, 3))[:, :2]
        assert (last < BLOBS + 4).all() and (last > BLOBS).all()  # it follows

    def test_calibrated_radius_is_the_noise(self, client, tmp_path):
        """Where keypoints are known to be exact, movement is not taken for jitter."""
        write_avi(tmp_path / 'a.avi')
        errors = []
        for radius in (0, 0.001, 100):
            radii = dict(edges=[[0.5]] * 3, pixels=[[[radius, radius]] * 2] * 3)
            path = save_centroid_model(tmp_path / 'a.onnx', keypoint_radii=radii)
            arguments = ('a.avi', '--bbox', '50,20,60,80', '--smooth', '--out', 'out')
            result = client(path, *arguments)
            assert result.returncode == 0, result.stderr
            last = np.reshape(read_predictions(tmp_path)['annotations'][-1]['keypoints'], (3, 3))
            errors.append(np.abs(last[:, :2] - BLOBS - 4).max())
        assert errors[0] < 0.1 and errors[1] < 0.1 and errors[2] > 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(centroids, tmp_path):
    """Peak memory of a video, and of one that is ten times as long."""
    code = (
        'import resource, sys; from mmpose_simcc_client import PoseSession, infer;'
        'infer(PoseSession(sys.argv[1], threads=1), sys.argv[2], "out");'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)'
    )
    (tmp_path / 'mmpose_simcc_client').symlink_to(PROJECT)
    peaks = []
    for number in (500, 5000):
        write_avi(tmp_path / f'{number}.avi', number, (64, 48))
        command = [sys.executable, '-c', code, str(centroids), f'{number}.avi']
        done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    # a person in a frame took 2.7 KB when all were kept: 12,000 KiB
    assert peaks[1] - peaks[0] < 5000


# --- smoothing ---


def one_euro_of_one_value(values, times, noise, min_cutoff, beta):
    """The paper's algorithm (Casiez et al., 2012, Section 3), a number at a time."""

    def alpha(cutoff, dt):
        return 1 / (1 + 1 / (2 * np.pi * cutoff) / dt)

    results, speed = [values[0]], 0.0
    for before, value, start, end in zip(values, values[1:], times, times[1:]):
        a = alpha(1.0, end - start)
        speed = a * (value - before) / (end - start) + (1 - a) * speed
        a = alpha(min_cutoff + beta * abs(speed) / noise, end - start)
        results.append(a * value + (1 - a) * results[-1])
    return results


class TestSmoothing:
    def test_one_euro_filter(self):
        rng = np.random.default_rng(0)
        values = rng.normal(0, 10, (30, 4, 2)).cumsum(0)
        times = rng.uniform(0.01, 0.1, 30).cumsum()
        noise = rng.uniform(0.5, 3, 4)
        smooth = OneEuroFilter(0.7, 0.3)
        found = np.stack([smooth(value, time, noise) for value, time in zip(values, times)])
        for k in range(4):
            for axis in range(2):
                expected = one_euro_of_one_value(values[:, k, axis], times, noise[k], 0.7, 0.3)
                np.testing.assert_allclose(found[:, k, axis], expected)

    def test_less_jitter_at_rest_and_little_lag_in_motion(self):
        """A person of 100x200 pixels at 30 frames a second: at rest, then running."""
        rng = np.random.default_rng(0)
        times = np.arange(180) / 30
        truth = np.zeros((180, 17, 2))
        truth[90:, :, 0] = 400 * (times[90:] - times[90])[:, None]  # pixels a second
        measured = truth + rng.normal(0, 1, truth.shape)
        smoother = Smoother()
        boxes = np.array([[0.0, 0.0, 100.0, 200.0]])
        found = np.concatenate(
            [
                smoother(points[None], boxes + [x, 0, 0, 0], time)[0]
                for points, x, time in zip(measured, truth[:, 0, 0], times)
            ]
        )

        def jitter(points):  # second differences
            return np.abs(np.diff(points[30:90], 2, axis=0)).mean()

        assert jitter(found) < 0.3 * jitter(measured)
        lag = (truth - found)[120:, :, 0].mean() / 400
        assert 0 <= lag < 1 / 30  # less than a frame

    def test_calibrated_radius_is_the_noise(self):
        """Twice as large a person with twice the radius is smoothed alike."""
        rng = np.random.default_rng(0)
        points = rng.normal(0, 2, (20, 1, 17, 2)).cumsum(0)
        boxes = np.array([[0.0, 0.0, 50.0, 100.0]])
        radius = rng.uniform(1, 3, (1, 17))
        found = []
        for scale in (1, 2):
            smoother = Smoother()
            for step in range(20):
                result = smoother(scale * points[step], boxes, step / 30, scale * radius)
            found.append(result[0] / scale)
        np.testing.assert_allclose(found[0], found[1])

    def test_people_keep_their_numbers(self):
        smoother = Smoother()

        def ids(boxes, time):
            boxes = np.array(boxes, np.float64).reshape(-1, 4)
            return smoother(np.zeros((len(boxes), 2, 2)), boxes, time)[1]

        left, right = [0, 0, 10, 20], [30, 0, 10, 20]
        assert ids([left, right], 0.0) == [1, 2]
        assert ids([right, left], 0.1) == [2, 1]  # in another order
        assert ids([[3, 0, 10, 20]], 0.2) == [1]
        assert ids([], 0.3) == []
        assert ids([right, [100, 0, 10, 20]], 0.4) == [2, 3]  # somebody new
        assert ids([right, left], 2.0) == [4, 5]  # away for too long

    def test_overlaps(self):
        """Against counting pixels."""
        rng = np.random.default_rng(0)
        boxes = rng.integers(1, 20, (8, 4))
        covered = np.zeros((8, 40, 40), bool)
        for canvas, (x, y, w, h) in zip(covered, boxes):
            canvas[y : y + h, x : x + w] = True
        both = (covered[:, None] & covered).sum((2, 3))
        either = (covered[:, None] | covered).sum((2, 3))
        np.testing.assert_allclose(box_overlaps(boxes, boxes), both / either)


# --- installed alone, and interrupted ---


@pytest.fixture(scope='module')
def alone(uv, tmp_path_factory):
    """The Python of an environment that has the client and what it needs."""
    folder = tmp_path_factory.mktemp('alone') / 'venv'
    run_elsewhere(uv, 'venv', '--python', sys.executable, folder)
    run_elsewhere(uv, 'pip', 'install', '--python', folder / 'bin/python', f'{PROJECT}[cpu,opencv]')
    return folder / 'bin/python'


@pytest.mark.slow
def test_distribution_finds_keypoints_without_torch_and_mmpose(alone, centroids, tmp_path):
    code = (
        'import json; from importlib.metadata import distributions;'
        'print(json.dumps([[d.metadata["Name"], d.version] for d in distributions()]))'
    )
    versions = {
        name.lower().replace('-', '_'): version
        for name, version in json.loads(run_elsewhere(alone, '-I', '-c', code))
    }
    assert versions['mmpose_simcc_client'] == mmpose_simcc.__version__
    assert {'numpy', 'onnxruntime', 'opencv_python_headless'} <= set(versions)
    assert not {'torch', 'mmpose', 'mmengine', 'mmpose_simcc'} & set(versions)
    write_picture(tmp_path / 'a.png')
    command = alone.with_name('mmpose-simcc-infer')
    out = run_elsewhere(
        command, centroids, 'a.png', '--bbox', '50,20,60,80', '--out', 'out', cwd=tmp_path
    )
    assert 'written to out' in out
    (person,) = read_predictions(tmp_path)['annotations']
    np.testing.assert_allclose(np.reshape(person['keypoints'], (3, 3))[:, :2], BLOBS, atol=0.1)


@pytest.mark.slow
def test_wheel_and_sdist_hold_licence_and_readme(uv, tmp_path):
    run_elsewhere(uv, 'build', '--out-dir', tmp_path, PROJECT)
    (wheel,), (sdist,) = tmp_path.glob('*.whl'), tmp_path.glob('*.tar.gz')
    licence = (ROOT / 'LICENSE').read_text()
    with zipfile.ZipFile(wheel) as content:
        info = f'mmpose_simcc_client-{mmpose_simcc.__version__}.dist-info'
        assert content.read(f'{info}/licenses/LICENSE').decode() == licence
        metadata = content.read(f'{info}/METADATA').decode()
    assert (PROJECT / 'README.md').read_text().strip() in metadata
    needed = [line for line in metadata.splitlines() if line.startswith('Requires-Dist')]
    assert [line for line in needed if 'extra' not in line] == ['Requires-Dist: numpy']
    with tarfile.open(sdist) as content:
        names = {Path(name).name for name in content.getnames()}
    assert {'LICENSE', 'README.md', 'pose.py'} <= names


@pytest.mark.slow
def test_editable_install_without_its_dependencies(uv, tmp_path):
    """It runs from where it lies, and says what is missing."""
    shutil.copytree(PROJECT, tmp_path / 'client')
    run_elsewhere(uv, 'venv', '--python', sys.executable, tmp_path / 'venv')
    python = tmp_path / 'venv/bin/python'
    run_elsewhere(uv, 'pip', 'install', '--python', python, '-e', tmp_path / 'client')
    code = 'import mmpose_simcc_client as client; print(client.__file__)'
    assert run_elsewhere(python, '-I', '-c', code).strip() == str(tmp_path / 'client/__init__.py')
    save_centroid_model(tmp_path / 'a.onnx')
    cv2.imwrite(str(tmp_path / 'a.png'), blobs_picture())
    for missing, advice, packages in [
        ('onnxruntime', 'onnxruntime, or onnxruntime-gpu for CUDA', 'onnxruntime'),
        ('cv2', 'opencv-python-headless, or opencv-python for windows', 'opencv-python-headless'),
    ]:
        command = [python.with_name('mmpose-simcc-infer'), 'a.onnx', 'a.png', '--out', 'out']
        done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith('mmpose-simcc-infer: ')
        assert line.endswith(
            f"cannot be imported (No module named '{missing}'): pip install {advice}"
        )
        run_elsewhere(uv, 'pip', 'install', '--python', python, packages)
    assert 'written to out' in run_elsewhere(*command, cwd=tmp_path)


BLOCK = """
import sys
for name in ('torch', 'torchvision', 'mmpose', 'mmengine', 'mmcv', 'mmdet',
             'onnx', 'scipy', 'matplotlib', 'tqdm', 'av'):
    sys.modules[name] = None  # importing it raises
"""


@pytest.mark.slow
def test_where_nothing_heavy_can_be_imported(centroids, tmp_path):
    write_picture(tmp_path / 'a.png')
    (tmp_path / 'blocked').mkdir()
    (tmp_path / 'blocked/sitecustomize.py').write_text(BLOCK)
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/infer_onnx.py', centroids, 'a.png', '--out', 'out'],
        text=True,
        capture_output=True,
        cwd=tmp_path,
        env=dict(PATH='/usr/bin:/bin', PYTHONPATH=f'{tmp_path}/blocked:{ROOT}'),
    )
    assert done.returncode == 0, done.stderr
    assert len(read_predictions(tmp_path)['annotations']) == 1


class EndlessStream(BaseHTTPRequestHandler):
    """Motion JPEG, as network cameras send it."""

    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=frame')
        self.end_headers()
        data = cv2.imencode('.jpg', blobs_picture())[1].tobytes()
        head = f'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n'
        with contextlib.suppress(OSError):  # the client has gone
            while True:
                self.wfile.write(head.encode() + data + b'\r\n')
                time.sleep(0.02)

    def log_message(self, *args):
        pass


@pytest.mark.slow
def test_ctrl_c_ends_a_stream(centroids, tmp_path):
    """As many frames are in the video as in the predictions, whatever was done at that moment."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), EndlessStream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/a.mjpg'
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/infer_onnx.py', centroids, url, '--out', 'out'],
        cwd=tmp_path,
        text=True,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not list((tmp_path / 'out').glob('.unfinished*.mp4')):
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    server.shutdown()
    assert process.returncode == 0, errors
    number = len(read_predictions(tmp_path)['images'])
    assert number > 1
    assert len(list(Video(str(tmp_path / 'out/a.mp4')))) == number


@pytest.mark.slow
@pytest.mark.parametrize('later', [0, 0.1, 0.5])
@pytest.mark.parametrize('earlier', [{}, {'a.mp4': b'earlier', 'predictions.json': b'{}'}])
def test_interrupted_video(centroids, tmp_path, earlier, later):
    """Leaves what an earlier run wrote, and nothing else."""
    writer = cv2.VideoWriter(str(tmp_path / 'a.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        writer.write(cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (64, 48)))
    writer.release()
    out = tmp_path / 'out'
    out.mkdir()
    for name, content in earlier.items():
        (out / name).write_bytes(content)
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/infer_onnx.py', centroids, 'a.avi', '--out', 'out'],
        cwd=tmp_path,
        text=True,
        stderr=subprocess.PIPE,
        # a job in the background ignores it, and so would all that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(out.glob('.unfinished*')):
        time.sleep(0.02)
    time.sleep(later)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == 'infer_onnx: interrupted'
    assert {path.name: path.read_bytes() for path in out.iterdir()} == earlier
