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
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmpose.datasets.transforms import PackPoseInputs
from mmpose.registry import MODELS

import mmpose_simcc  # noqa: F401

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


def has_frame(codec, use_udp):
    """Stock's codecs are for one frame, ours for both."""
    only = dict(stock_udp=True, stock_quarter=False, stock_dark=False, stock_simcc=False)
    return only.get(codec, use_udp) == use_udp


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


def perfect_head(head, render, in_stages=False):
    """A head of MMPose or of this package, in all but its ``forward``."""

    class Perfect(MODELS.get(head)):
        def forward(self, feats):
            outputs = render(feats[-1][..., 0])
            return [outputs] if in_stages else outputs

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
    return np.stack(blobs, -1).astype(np.float32) * 255


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


def build(codec, crop, use_udp, flip, model_type, head=None, in_stages=False):
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

        arguments = dict(input_size=input_size, simcc_split_ratio=SPLIT_RATIO)
        arguments['in_featuremap_size'] = (1, 1)
        head = head or ('SimCCHead' if codec == 'stock_simcc' else 'SimCCClassifierHead')
        if head == 'SimCCHead':
            arguments['deconv_out_channels'] = None
        if head == 'Heatmap1DHead':
            arguments = dict(in_featuremap_size=tuple(n // 32 for n in input_size))
    else:
        decoder.update(heatmap_size=heatmap_size, sigma=sigma)
        pitch = cell_pitch(input_size, heatmap_size, use_udp)

        def render(points):
            return ideal_maps(points, heatmap_size, sigma, pitch)

        head = head or 'HeatmapHead'
        if head == 'TokenHeatmapHead':
            arguments = dict(heatmap_size=heatmap_size)
        elif head == 'MSPNHead':
            arguments = dict(num_stages=1, num_units=1, unit_channels=8, level_indices=[0])
        elif head == 'CPMHead':
            arguments = dict(num_stages=1)
        else:
            arguments = dict(deconv_out_channels=None)
    if head != 'MSPNHead':
        arguments['in_channels'] = K
    perfect = dict(
        type=perfect_head(head, render, in_stages), out_channels=K, decoder=decoder, **arguments
    )
    return MODELS.build(
        dict(
            type=model_type,
            data_preprocessor=dict(type='PoseDataPreprocessor'),
            backbone=dict(type='BlobFinder'),
            head=perfect,
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
@pytest.mark.parametrize('frame', FRAMES)
@pytest.mark.parametrize('crop', CROPS)
@pytest.mark.parametrize('codec', CODECS)
def test_no_bias(codec, crop, frame, flip):
    use_udp = FRAMES[frame]
    if not has_frame(codec, use_udp):
        pytest.skip('stock has no such codec')
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
            np.testing.assert_allclose(found, expected, atol=0.005)
