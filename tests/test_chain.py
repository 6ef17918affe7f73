# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""From a picture to keypoints in that picture: MMPose's pipeline, a network that makes no mistake,
head, flip test, codec and the way back to picture pixels, in one piece.

The pictures have one blob a keypoint, each of a colour of its own. The network finds the centroid
of every blob in whatever crop it gets, mirrored or not, and renders the ideal heatmap or vector
there. So it knows nothing of flips, and every pixel of bias is of the chain.
"""

from functools import lru_cache

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmpose.datasets.transforms import PackPoseInputs
from mmpose.registry import MODELS

from mmpose_simcc.deploy.client import RTMLIB_MEAN, RTMLIB_STD, PoseSession
from mmpose_simcc.functional import mirror_images
from mmpose_simcc.utils.inference import pose_head

K = 3
BIAS = 0.02  # input pixels, of the mean error along an axis

# Distances from the middle of a cell or a bin. Nothing lies on a border between two of them, and
# for every point there is one opposite, so that what a decoder rounds off has no mean.
PHASES = np.array([-0.43, -0.3, -0.19, -0.08, 0.08, 0.19, 0.3, 0.43])
Y_ORDER = [2, 0, 3, 1, 6, 4, 7, 5]  # as opposite as those of x, and of another size

# input size, heatmap size, sigma in cells, rotation of the box in degrees
CROPS = dict(
    square=((64, 64), (32, 32), 2, 0),
    tall=((48, 64), (12, 16), 1, 0),
    odd=((65, 49), (31, 25), 1.5, 0),
    rotated=((64, 64), (32, 32), 2, 30),
)
SPLIT_RATIO, SIGMA_BINS = 2, 6

# Codecs, and how far off they may be at most: in cells or bins
HEATMAP_CODECS = dict(
    argmax=(dict(type='HeatmapCodec', refine='none'), 0.5),
    quarter=(dict(type='HeatmapCodec', refine='quarter'), 0.25),
    second_max=(dict(type='HeatmapCodec', refine='second_max'), 0.5),
    dark=(dict(type='DARKCodec'), 0.02),
    daec_clip=(dict(type='DAECCodec', delta=0), 0.02),
    daec_symmetric=(dict(type='DAECCodec', delta=0, border='symmetric'), 0.02),
    daec_empirical=(dict(type='DAECCodec'), None),
    stock_quarter=(dict(type='MSRAHeatmap'), 0.25),
    stock_dark=(dict(type='MSRAHeatmap', unbiased=True), 0.02),
    stock_udp=(dict(type='UDPHeatmap'), 0.02),
)
SIMCC_CODECS = dict(
    simcc=(dict(type='SimCCCodec'), 0.5),
    simcc_dark=(dict(type='SimCCCodec', refine='dark'), 0.02),
    simcc_daec=(dict(type='SimCCCodec', refine='daec'), 0.02),
    stock_simcc=(dict(type='SimCCLabel'), 0.5),
)
CODECS = {**HEATMAP_CODECS, **SIMCC_CODECS}
FRAMES = dict(plain=False, udp=True)
# Stock's codecs are for one frame, ours for both
ONLY_FRAME = dict(stock_udp='udp', stock_quarter='plain', stock_dark='plain', stock_simcc='plain')
CODECS_IN_FRAMES = [
    (codec, frame) for codec in CODECS for frame in FRAMES if ONLY_FRAME.get(codec, frame) == frame
]


@MODELS.register_module()
class BlobFinder(BaseModule):
    """A backbone whose features are the centroids (B, C, 2, 1) of the blobs in an image
    (B, C, h, w), in its pixels."""

    def forward(self, images):
        h, w = images.shape[-2:]
        x, y = (torch.arange(n, dtype=images.dtype, device=images.device) for n in (w, h))
        mass = images.sum((-2, -1))
        centroids = [(images.sum(-2) * x).sum(-1) / mass, (images.sum(-1) * y).sum(-1) / mass]
        return (torch.stack(centroids, -1).unsqueeze(-1),)


def cell_pitch(input_size, heatmap_size, use_udp):
    """Input pixels between two cells, in MMPose's two frames."""
    return (np.array(input_size) - use_udp) / (np.array(heatmap_size) - use_udp)


def ideal_maps(points, heatmap_size, sigma, pitch):
    """Gaussians (B, K, H, W) at points (B, K, 2) in input pixels."""
    x, y = (
        (torch.arange(size) - points[..., axis, None] / pitch[axis]).square()
        for axis, size in enumerate(heatmap_size)
    )
    return (-(y.unsqueeze(-1) + x.unsqueeze(-2)) / (2 * sigma**2)).exp()


def ideal_vectors(points, input_size, split_ratio, sigma):
    """Logits of Gaussians, largest where stock's decoder wants them: above 0."""
    return tuple(
        10
        - (torch.arange(round(size * split_ratio)) - points[..., axis, None] * split_ratio).square()
        / (2 * sigma**2)
        for axis, size in enumerate(input_size)
    )


def perfect_head(head, render):
    """A head of MMPose or of this package, in all but its ``forward``."""

    class Perfect(MODELS.get(head)):
        def forward(self, feats):
            outputs = render(feats[-1][..., 0])
            return [outputs] if head in ('CPMHead', 'MSPNHead') else outputs

    return Perfect


@lru_cache(None)
def scope():
    init_default_scope('mmpose')


class Box:
    """A box in a picture, and where a pipeline has the pixels of its crop.

    Args:
        index (int): Boxes differ.
        crop (str): Of CROPS.
        use_udp (bool): The pipeline's.
    """

    def __init__(self, index, crop, use_udp):
        self.input_size, _, _, rotation = CROPS[crop]
        w, h = self.input_size
        left, top = 25.3 + 0.7 * index, 21.6 + 1.3 * index
        self.bbox = np.array([[left, top, left + 0.9 * w, top + 1.02 * h]], np.float32)
        self.rotation = rotation
        self.steps = Compose(
            [
                dict(type='GetBBoxCenterScale'),
                dict(type='TopdownAffine', input_size=self.input_size, use_udp=use_udp),
            ]
        )
        corners = np.float32([[0, 0], [100, 0], [0, 100]])
        origin, x, y = self.run(np.zeros((8, 8, 3), np.uint8), corners)[1]
        self.origin = origin
        self.matrix = np.stack([x - origin, y - origin], -1) / 100

    def run(self, picture, keypoints):
        """What the pipeline makes of a picture, and of keypoints in it."""
        results = dict(
            img=picture,
            img_shape=picture.shape[:2],
            ori_shape=picture.shape[:2],
            bbox=self.bbox,
            bbox_score=np.ones(1, np.float32),
            keypoints=keypoints[None],
            keypoints_visible=np.ones((1, len(keypoints)), np.float32),
            flip_indices=list(range(K)),
        )
        if self.rotation:
            results['bbox_rotation'] = np.array([self.rotation], np.float32)
        cropped = self.steps(results)
        return PackPoseInputs()(cropped), cropped['transformed_keypoints'][0]

    def to_picture(self, points):
        """Pixels of the crop (K, 2) as pixels of the picture."""
        return np.linalg.solve(self.matrix, (points - self.origin).T).T.astype(np.float32)


def draw(keypoints):
    """A picture (160, 160, 3) with a blob at each keypoint (3, 2)."""
    y, x = np.mgrid[:160, :160]
    blobs = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 5**2)) for a, b in keypoints]
    return (np.stack(blobs, -1) * 255).round().astype(np.uint8)


@lru_cache(None)
def samples(crop, use_udp, on_bins):
    """For each picture itself, keypoints in it (K, 2), their box, and what the pipeline makes of
    picture and keypoints."""
    scope()
    input_size, heatmap_size, _, _ = CROPS[crop]
    pitch = np.ones(2) if on_bins else cell_pitch(input_size, heatmap_size, use_udp)
    middle = np.array(input_size) // 2 if on_bins else np.array(heatmap_size) // 2
    found = []
    for index, (x, y) in enumerate(zip(PHASES, PHASES[Y_ORDER])):
        box = Box(index, crop, use_udp)
        cells = middle + np.array([[-1, 1], [0, 0], [1, -1]])
        keypoints = box.to_picture((cells + (x, y)) * pitch)
        picture = draw(keypoints)
        found.append((picture, keypoints, box, *box.run(picture, keypoints)))
    return found


# What heads need to be built, besides what all do
HEAD_ARGUMENTS = dict(
    HeatmapHead=dict(deconv_out_channels=None),
    ViPNASHead=dict(deconv_out_channels=None),
    CPMHead=dict(num_stages=1),
    MSPNHead=dict(num_stages=1, num_units=1, unit_channels=8, level_indices=[0]),
    SimCCHead=dict(in_featuremap_size=(1, 1), deconv_out_channels=None),
    RTMCCHead=dict(in_featuremap_size=(1, 1)),
    RTMWHead=dict(in_featuremap_size=(1, 1)),
    SimCCClassifierHead=dict(in_featuremap_size=(1, 1)),
)


def build(codec, crop, use_udp, flip, model_type, head=None, visibility=False):
    """A perfect model with a real head."""
    scope()
    input_size, heatmap_size, sigma, _ = CROPS[crop]
    decoder = {**CODECS[codec][0], 'input_size': input_size}
    if decoder['type'] not in ('MSRAHeatmap', 'UDPHeatmap', 'SimCCLabel'):
        decoder['use_udp'] = use_udp
    if codec in SIMCC_CODECS:
        decoder.update(simcc_split_ratio=SPLIT_RATIO, sigma=SIGMA_BINS)

        def render(points):
            return ideal_vectors(points, input_size, SPLIT_RATIO, SIGMA_BINS)

        head = head or ('SimCCHead' if codec == 'stock_simcc' else 'SimCCClassifierHead')
    else:
        decoder.update(heatmap_size=heatmap_size, sigma=sigma)
        pitch = cell_pitch(input_size, heatmap_size, use_udp)

        def render(points):
            return ideal_maps(points, heatmap_size, sigma, pitch)

        head = head or 'HeatmapHead'
    arguments = dict(HEAD_ARGUMENTS.get(head, {}), out_channels=K, decoder=decoder)
    if head in ('SimCCHead', 'RTMCCHead', 'RTMWHead'):
        arguments.update(input_size=input_size, simcc_split_ratio=SPLIT_RATIO)
    if head == 'TokenHeatmapHead':
        arguments.update(heatmap_size=heatmap_size)
    if head != 'MSPNHead':
        arguments.update(in_channels=K)
    head = dict(type=perfect_head(head, render), **arguments)
    if visibility:
        head = dict(type='VisPredictHead', pose_cfg=head)
    return MODELS.build(
        dict(
            type=model_type,
            data_preprocessor=dict(type='PoseDataPreprocessor'),
            backbone=dict(type='BlobFinder'),
            head=head,
            test_cfg=dict(flip_test=flip, flip_mode='heatmap', shift_heatmap=not use_udp),
        )
    ).eval()


@torch.no_grad()
def errors(model, crop, use_udp, on_bins):
    """Prediction less truth (N, 2) in input pixels; the truth is in the picture."""
    found = samples(crop, use_udp, on_bins)
    predicted = model.test_step(pseudo_collate([item[3] for item in found]))
    size = np.array(CROPS[crop][0])
    all_errors = []
    for sample, (_, keypoints, box, _, in_crop) in zip(predicted, found):
        points = sample.pred_instances.keypoints[0]
        if box.rotation:  # MMPose's way back knows of no rotation, the pipeline's keypoints do
            corner = sample.input_center - sample.input_scale / 2
            points = (points - corner) / sample.input_scale * (size - use_udp)
            all_errors.append(points - in_crop)
        else:
            all_errors.append((points - keypoints) / sample.input_scale * size)
    return np.concatenate(all_errors)


def daec_bias(sigma):
    """What the paper's window makes of exact Gaussians, in cells: the mean of a row's cells
    from e = int(3 sigma + 1) left of the argmax to e - (sigma + 2) right of it."""
    reach = int(3 * sigma + 1)
    i = np.arange(-reach, reach + 1)
    kept = (reach - (sigma + 2) - i + 1).clip(0, 1)  # the last cell counts by its fraction
    weights = kept * np.exp(-((i - PHASES[:, None]) ** 2) / (2 * sigma**2))
    return ((weights * i).sum(-1) / weights.sum(-1) - PHASES).mean()


@pytest.mark.parametrize('flip', [False, True], ids=['one', 'flip'])
@pytest.mark.parametrize('crop', CROPS)
@pytest.mark.parametrize('codec, frame', CODECS_IN_FRAMES)
def test_no_bias(codec, frame, crop, flip):
    use_udp = FRAMES[frame]
    on_bins = codec in SIMCC_CODECS
    model = build(codec, crop, use_udp, flip, 'ExactFlipPoseEstimator')
    found = errors(model, crop, use_udp, on_bins)
    pitch = 1 / SPLIT_RATIO if on_bins else cell_pitch(*CROPS[crop][:2], use_udp)
    quantum = CODECS[codec][1]
    if quantum is None:
        np.testing.assert_allclose(found.mean(0), daec_bias(CROPS[crop][2]) * pitch, atol=BIAS)
    else:
        assert (np.abs(found) <= quantum * pitch + BIAS).all()
        assert (np.abs(found.mean(0)) < BIAS).all()


@pytest.mark.parametrize('use_udp', [False, True])
def test_the_network_is_perfect(use_udp):
    """Where a blob's centroid is found in a crop, its keypoint is."""
    backbone = BlobFinder()
    for crop in CROPS:
        for _, _, _, packed, expected in samples(crop, use_udp, True):
            found = backbone(packed['inputs'][None].double())[0][0, ..., 0].numpy()
            np.testing.assert_allclose(found, expected, atol=0.01)  # of 8 bits a colour


# Heads of each kind of output, by whose `predict` a flip test goes
HEATMAP_HEADS = ('HeatmapHead', 'ViPNASHead', 'TokenHeatmapHead', 'CPMHead', 'MSPNHead')
SIMCC_HEADS = ('SimCCHead', 'RTMCCHead', 'RTMWHead', 'SimCCClassifierHead')


@pytest.mark.parametrize('crop', ['tall', 'odd'])
@pytest.mark.parametrize('use_udp', [False, True])
@pytest.mark.parametrize(
    'head, visibility',
    [(head, False) for head in HEATMAP_HEADS + SIMCC_HEADS]
    + [(head, True) for head in ('HeatmapHead', 'RTMCCHead', 'SimCCClassifierHead')],
)
def test_every_head(head, visibility, use_udp, crop):
    """The flip test changes nothing for a perfect network; with ``visibility`` the head is inside
    a VisPredictHead."""
    is_simcc = head in SIMCC_HEADS
    codec = 'simcc' if is_simcc else 'dark'
    found = {}
    for flip in (False, True):
        model = build(codec, crop, use_udp, flip, 'ExactFlipPoseEstimator', head, visibility)
        found[flip] = errors(model, crop, use_udp, is_simcc)
        assert 'forward' not in vars(pose_head(model))
    np.testing.assert_allclose(found[True], found[False], atol=0.01)


@pytest.mark.parametrize(
    'codec, use_udp, expected',
    [
        ('dark', False, 0.5),
        ('dark', True, 0),
        ('stock_simcc', False, 0.25),
        ('simcc', False, 0),
        ('simcc', True, 0),
    ],
)
def test_stocks_flip(codec, use_udp, expected):
    """What is left in the mean by TopdownPoseEstimator, in the same configs: half a pixel in plain
    pipelines, half of (k - 1) / k pixels where vectors are reversed. SimCC heads of this package
    undo its mirroring exactly."""
    model = build(codec, 'tall', use_udp, True, 'TopdownPoseEstimator')
    found = errors(model, 'tall', use_udp, codec in SIMCC_CODECS).mean(0)
    np.testing.assert_allclose(found, [expected, 0], atol=BIAS)


class TestExactFlip:
    def test_averages_visibility(self):
        model = build('dark', 'tall', False, True, 'ExactFlipPoseEstimator', visibility=True)
        torch.nn.init.constant_(next(model.head.vis_head.parameters()), 0.01)
        image = torch.zeros(1, K, 64, 48)
        image[..., :10] = 1
        feats, mirrored = (model.extract_feat(x) for x in (image, mirror_images(image)))
        expected = (model.head.vis_forward(feats) + model.head.vis_forward(mirrored)) / 2
        assert not torch.allclose(expected, model.head.vis_forward(feats), atol=0.01)
        sample = samples('tall', False, False)[0][3]['data_samples']
        found = model.predict(image, [sample])[0].pred_instances.keypoints_visible
        np.testing.assert_allclose(found, expected.detach(), atol=1e-5)

    @pytest.mark.parametrize('codec', ['dark', 'simcc', 'stock_simcc'])
    def test_returns_the_averaged_maps(self, codec):
        model = build(codec, 'tall', False, True, 'ExactFlipPoseEstimator')
        model.test_cfg['output_heatmaps'] = True
        packed = [item[3] for item in samples('tall', False, codec != 'dark')]
        with torch.no_grad():
            predicted = model.test_step(pseudo_collate(packed))
            model.test_cfg['flip_test'] = False
            alone = model.test_step(pseudo_collate(packed))
        for ours, expected in zip(predicted, alone):
            maps, expected = ours.pred_fields.heatmaps, expected.pred_fields.heatmaps
            torch.testing.assert_close(maps, expected, atol=0.01, rtol=0.01)

    def test_other_maps_are_refused(self):
        model = build('dark', 'tall', True, True, 'ExactFlipPoseEstimator')
        model.test_cfg['flip_mode'] = 'udp_combined'
        with pytest.raises(ValueError, match="`test_cfg.flip_mode` must be 'heatmap'"):
            errors(model, 'tall', True, False)

    def test_coordinates_are_refused(self):
        scope()
        decoder = dict(type='RegressionLabel', input_size=(48, 64))
        head = dict(type='RegressionHead', in_channels=K, num_joints=K, decoder=decoder)
        model = MODELS.build(
            dict(
                type='ExactFlipPoseEstimator',
                backbone=dict(type='BlobFinder'),
                neck=dict(type='GlobalAveragePooling'),
                head=head,
                test_cfg=dict(flip_test=True),
            )
        ).eval()
        with pytest.raises(ValueError, match='`outputs` must be heatmaps'):
            errors(model, 'tall', False, False)


# A config as far as an export reads it
BLOBS = dict(
    dataset_name='blobs',
    keypoint_info={
        i: dict(name=f'blob {i}', id=i, color=[0, 0, 0], type='', swap='') for i in range(K)
    },
    skeleton_info={},
    joint_weights=[1.0] * K,
    sigmas=[0.05] * K,
)


def export(codec, crop, use_udp, path, **arguments):
    """Write a perfect model as ONNX."""
    onnx = pytest.importorskip('onnx')
    from mmpose_simcc.deploy.export.graph import DeployModel
    from mmpose_simcc.deploy.export.onnx_file import describe, to_onnx

    model = build(codec, crop, use_udp, False, 'ExactFlipPoseEstimator')
    affine = dict(type='TopdownAffine', input_size=CROPS[crop][0], use_udp=use_udp)
    dataset = dict(
        type='CocoDataset', metainfo=BLOBS, pipeline=[dict(type='GetBBoxCenterScale'), affine]
    )
    decoder = {**CODECS[codec][0], 'input_size': CROPS[crop][0], 'use_udp': use_udp}
    cfg = dict(model=dict(head=dict(decoder=decoder)), test_dataloader=dict(dataset=dataset))
    deployed = DeployModel(model, **arguments).eval()
    onnx.save(to_onnx(deployed, describe(Config(cfg), deployed)), str(path))
    return path


def bias(predict, crop, use_udp, on_bins):
    """Mean error in input pixels of ``predict(picture, box) -> keypoints``."""
    found = []
    for picture, keypoints, box, _, _ in samples(crop, use_udp, on_bins):
        found.append((predict(picture, box) - keypoints) @ box.matrix.T)
    return np.concatenate(found).mean(0)


def mmdeploys_rule(path, crop):
    """MMDeploy's client for vectors: its pipeline is MMPose's; a bin is argmax / 2, and pixel p is
    the part p / w of the box, whatever the crop. Of keypoints the second alone."""
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(str(path))
    has_vectors = session.get_outputs()[0].name == 'simcc_x'

    def predict(picture, box):
        sample = box.run(picture, np.zeros((K, 2), np.float32))[0]
        image = sample['inputs'].numpy()[None].astype(np.float32)
        mean, std = np.float32([RTMLIB_MEAN, RTMLIB_STD])[..., None, None]
        outputs = session.run(None, dict(input=(image - mean) / std))
        pixels = outputs[0][0]
        if has_vectors:
            pixels = np.stack([vectors.argmax(-1)[0] for vectors in outputs], -1) / 2
        meta = sample['data_samples'].metainfo
        scale = meta['input_scale']
        return pixels / CROPS[crop][0] * scale + meta['input_center'] - scale / 2

    return predict


@pytest.mark.parametrize('frame', FRAMES)
@pytest.mark.parametrize(
    'codec, output', [('dark', 'keypoints'), ('simcc', 'keypoints'), ('simcc', 'simcc')]
)
def test_export_has_no_bias(codec, output, frame, tmp_path):
    """By our client, by MMDeploy's rule and, for vectors of plain crops, by rtmlib."""
    pytest.importorskip('onnxruntime')
    use_udp, crop = FRAMES[frame], 'tall'
    path = export(codec, crop, use_udp, tmp_path / 'a.onnx', input='bgr', output=output)
    session = PoseSession(path)

    def by_our_client(picture, box):
        x1, y1, x2, y2 = box.bbox[0]
        return session.predict(picture, np.array([[x1, y1, x2 - x1, y2 - y1]]))[0][0]

    clients = [by_our_client]
    if not (use_udp and output == 'simcc'):
        clients.append(mmdeploys_rule(path, crop))
    if output == 'simcc' and not use_udp:
        rtmlib = pytest.importorskip('rtmlib')
        pose = rtmlib.RTMPose(str(path), model_input_size=CROPS[crop][0])
        clients.append(lambda picture, box: pose(picture, box.bbox)[0][0])
    for client in clients:
        found = bias(client, crop, use_udp, codec == 'simcc')
        assert (np.abs(found) < BIAS).all(), client.__name__


def test_mmdeploys_rule_on_vectors_of_udp_crops(tmp_path):
    """A UDP crop has pixel p at the part p / (w - 1) of the box, MMDeploy at p / w: keypoints are
    p / w pixels too far up left, half a pixel in the middle of the crop."""
    path = export('simcc', 'tall', True, tmp_path / 'a.onnx', input='bgr', output='simcc')
    found = bias(mmdeploys_rule(path, 'tall'), 'tall', True, True)
    np.testing.assert_allclose(found, [-0.5, -0.5], atol=BIAS)
