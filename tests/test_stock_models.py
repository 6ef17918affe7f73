# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Codecs read what people have trained with MMPose's own: UDP and RTMPose."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import DEVICES
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmpose.codecs import MSRAHeatmap, RegressionLabel, SimCCLabel, UDPHeatmap
from mmpose.datasets.transforms import TopdownAffine
from mmpose.models import TopdownPoseEstimator
from mmpose.models.losses import KLDiscretLoss
from mmpose.registry import KEYPOINT_CODECS
from mmpose.structures import PoseDataSample
from test_stock_configs import STOCK, buildable

from mmpose_simcc import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec, SimCCKLLoss
from mmpose_simcc.codecs import equivalent_codec
from mmpose_simcc.utils.inference import build_model

TOP_DOWN = 'body_2d_keypoint/topdown_heatmap/coco'
SIZE = dict(input_size=(192, 256), heatmap_size=(48, 64), sigma=2)


def keypoints_in(low, high, number=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(low, high, (1, number, 2)).astype(np.float32)


def as_peak(output):
    """A network's output (H, W) as a smooth peak with a maximum of 1."""
    output = (output - output.max()) / np.ptp(output)
    peak = cv2.GaussianBlur(np.exp(40 * output), (0, 0), 6, borderType=cv2.BORDER_CONSTANT)
    return peak / peak.max()


def is_same_step(heatmap):
    """Whether stock's and DARK's Newton steps of up to a cell are the same to 0.01 pixels, told
    from their second derivatives alone, in float64."""
    H, W = heatmap.shape
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    if not (1 < x < W - 2 and 1 < y < H - 2):
        return False
    smooth = cv2.GaussianBlur(np.pad(heatmap.astype(np.float64), 5), (11, 11), 0)[5:-5, 5:-5]
    around = smooth[y - 2 : y + 3, x - 2 : x + 3] * heatmap.max() / smooth.max()
    if around.min() < 1e-3:
        return False

    def log(dx, dy):
        return np.log(around[2 + dy, 2 + dx])

    def second(dx, dy):  # along a direction
        return log(dx, dy) - 2 * log(0, 0) + log(-dx, -dy)

    stock_xy = (second(1, 1) - second(1, 0) - second(0, 1)) / 2
    stock = np.array([[second(1, 0), stock_xy], [stock_xy, second(0, 1)]])
    dark_xy = log(1, 1) - log(1, -1) - log(-1, 1) + log(-1, -1)
    dark = np.array([[second(2, 0), dark_xy], [dark_xy, second(0, 2)]]) / 4
    # 0.2% of a cell of 192/47 pixels
    return np.linalg.norm(np.linalg.inv(stock) @ dark - np.eye(2), 2) < 2e-3


class TestUDP:
    @pytest.mark.parametrize('codec', [HeatmapCodec, DARKCodec, DAECCodec])
    def test_labels_are_stocks(self, codec):
        keypoints = keypoints_in((-40, -40), (230, 300))
        visible = np.random.default_rng(1).integers(0, 2, (1, 200)).astype(np.float32)
        expected = UDPHeatmap(**SIZE).encode(keypoints, visible)
        actual = codec(**SIZE, use_udp=True).encode(keypoints, visible)
        np.testing.assert_allclose(actual['heatmaps'], expected['heatmaps'], atol=1e-6)
        assert np.array_equal(actual['keypoint_weights'], expected['keypoint_weights'])

    @pytest.mark.parametrize(
        'codec,cells',
        [
            (DARKCodec(**SIZE, use_udp=True), 0.05),
            (DAECCodec(**SIZE, use_udp=True, delta=0), 0.1),
            (HeatmapCodec(**SIZE, use_udp=True, refine='none'), 0.51),
        ],
    )
    def test_finds_the_keypoint_on_stock_labels(self, codec, cells):
        keypoints = keypoints_in((40, 40), (151, 215))
        heatmaps = UDPHeatmap(**SIZE).encode(keypoints)['heatmaps']
        decoded, _ = codec.decode(heatmaps)
        found = decoded / codec.decoded_scale_factor
        assert np.abs(found - keypoints / codec.scale_factor).max() <= cells

    def test_dark_is_stocks_where_both_take_the_same_step(self):
        """On the log of a wide Gaussian, a parabola, differences of spacing 1 and 2 agree."""
        sizes = dict(SIZE, sigma=6)
        keypoints = keypoints_in((80, 100), (110, 150))
        grid_y, grid_x = np.mgrid[:64, :48]
        u, v = np.moveaxis(keypoints[0] / UDPHeatmap(**SIZE).scale_factor, -1, 0)[..., None, None]
        heatmaps = np.exp(-((grid_x - u) ** 2 + (grid_y - v) ** 2) / 72).astype(np.float32)
        stock, stock_scores = UDPHeatmap(**sizes).decode(heatmaps)
        ours, scores = DARKCodec(**sizes, blur_kernel_size=11, use_udp=True).decode(heatmaps)
        assert np.abs(ours - stock).max() < 0.01
        np.testing.assert_allclose(scores, stock_scores, atol=1e-6)

    @pytest.mark.parametrize('config', ['hrnet-w32_udp-', 'ViTPose-small_'])
    def test_dark_is_stocks_on_outputs_of_networks(self, config):
        """Of stock configs with random weights, whose outputs are made into peaks as trained
        networks give them: sharpened, and smoothed by a wide Gaussian.

        Both decoders take one Newton step on the log of the same smoothed map, with the same
        first derivatives. It is the same step where the log is a parabola, and its terms of
        third order matter as little: then second derivatives between neighbours (stock's) and
        over two cells (DARK's, and ours) agree. It is another where the peak has any other form,
        where stock takes a value of the map to be at least 1e-3, and within two cells of the
        border, where DARK and ours keep the maximum.
        """
        (path,) = (STOCK / TOP_DOWN).glob(f'td-hm_{config}8xb64*coco-256x192.py')
        cfg = Config.fromfile(path)
        cfg.model = buildable(cfg)
        torch.manual_seed(0)
        model = build_model(cfg)
        with torch.no_grad():
            outputs = model.head(model.extract_feat(torch.randn(8, 3, 256, 192)))
        heatmaps = np.stack([as_peak(output) for output in outputs.flatten(0, 1).numpy()])
        stock = KEYPOINT_CODECS.build(cfg.model.head.decoder)
        assert isinstance(stock, UDPHeatmap)
        expected, expected_scores = stock.decode(heatmaps)
        actual, scores = DARKCodec(**SIZE, use_udp=True).decode(heatmaps)
        difference = np.abs(actual - expected).max(-1)[0]
        same = np.array([is_same_step(heatmap) for heatmap in heatmaps])
        assert same.sum() > 10 and difference[same].max() < 0.01
        cells = actual[0, same] / (np.array([192, 256]) / [47, 63])
        assert np.abs(cells - cells.round()).mean() > 0.05  # there are steps
        assert difference[~same].max() > 0.01  # it matters which are left out
        np.testing.assert_allclose(scores, expected_scores, atol=1e-6)

    @pytest.mark.parametrize('use_udp', [False, True])
    def test_from_the_picture_and_back(self, use_udp):
        """Through MMPose's own crop, and its own way back to the picture. A codec without
        `use_udp` would be up to 4 pixels off here."""
        rng = np.random.default_rng(0)
        truth = rng.uniform((250, 160), (350, 260), (1, 17, 2)).astype(np.float32)
        results = dict(
            img=np.zeros((480, 640, 3), np.uint8),
            bbox_center=np.array([[300.0, 210.0]], np.float32),
            bbox_scale=np.array([[150.0, 200.0]], np.float32),
            keypoints=truth,
        )
        cut = TopdownAffine((192, 256), use_udp=use_udp).transform(results)
        codec = DARKCodec(**SIZE, use_udp=use_udp)
        inner = cut['transformed_keypoints'].clip(12, (179, 243))
        heatmaps = codec.encode(inner)['heatmaps']
        sample = PoseDataSample(
            metainfo=dict(
                input_size=(192, 256),
                input_center=cut['bbox_center'][0],
                input_scale=cut['bbox_scale'][0],
            )
        )
        sample.gt_instances = InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
        keypoints, scores = codec.decode(heatmaps)
        prediction = InstanceData(keypoints=keypoints, keypoint_scores=scores)
        TopdownPoseEstimator.add_pred_to_datasample(
            SimpleNamespace(test_cfg={}), [prediction], None, [sample]
        )
        kept = (inner == cut['transformed_keypoints']).all(-1)[0]
        error = np.abs(sample.pred_instances.keypoints - truth)[0, kept].max()
        assert kept.sum() > 8 and error < 0.05 * 200 / 256 * 4  # 0.05 cells

    def test_a_map_of_one_cell_has_no_udp(self):
        with pytest.raises(ValueError, match='`heatmap_size` must be'):
            HeatmapCodec((192, 256), (1, 64), 2, use_udp=True)


RTMPOSE = dict(
    input_size=(192, 256),
    sigma=(4.9, 5.66),
    simcc_split_ratio=2.0,
    normalize=False,
)
RTMPOSE_LOSS = dict(beta=10.0, label_softmax=True)


class TestRTMPose:
    @pytest.fixture
    def codecs(self):
        stock = SimCCLabel(**RTMPOSE, use_dark=False)
        return stock, equivalent_codec(stock, KLDiscretLoss(use_target_weight=True, **RTMPOSE_LOSS))

    def test_labels_are_stocks(self, codecs):
        stock, ours = codecs
        keypoints = keypoints_in(0, (191, 255))
        expected, actual = stock.encode(keypoints), ours.encode(keypoints)
        for axis in 'xy':
            name = f'keypoint_{axis}_labels'
            np.testing.assert_allclose(actual[name], expected[name], atol=1e-6)
            assert (actual[name].max(-1) == 1).all()

    def test_loss_is_stocks(self, codecs):
        stock, ours = codecs
        encoded = stock.encode(keypoints_in(0, (191, 255), 8))
        target = tuple(torch.from_numpy(encoded[f'keypoint_{axis}_labels']) for axis in 'xy')
        pred = tuple(torch.randn(t.shape) for t in target)
        weights = torch.rand(1, 8)
        expected = KLDiscretLoss(use_target_weight=True, **RTMPOSE_LOSS)(pred, target, weights)
        actual = SimCCKLLoss(**RTMPOSE_LOSS, reduction='stock')(pred, target, weights)
        assert actual.item() == pytest.approx(expected.item(), rel=1e-5)

    @pytest.mark.parametrize('refine', ['none', 'dark', 'daec'])
    def test_a_perfect_output_scores_1_and_is_found(self, codecs, refine):
        stock, ours = codecs
        ours.refine = refine
        keypoints = np.round(keypoints_in(20, (171, 235)))
        encoded = stock.encode(keypoints)  # the loss is least where outputs are labels
        outputs = [encoded[f'keypoint_{axis}_labels'][0] for axis in 'xy']
        decoded, scores = ours.decode(*outputs)
        assert np.abs(decoded - keypoints).max() < 0.05
        assert (scores >= 0.9).all() and (scores <= 1).all()
        _, worse = ours.decode(*(0.3 * output for output in outputs))
        assert (worse < scores).all() and (worse > 0).all()

    def test_arguments_in_words(self):
        with pytest.raises(ValueError, match='`normalize` must be True for'):
            SimCCCodec((48, 64), label_smoothing='equal', normalize=False)
        with pytest.raises(ValueError, match='`beta` must be'):
            SimCCCodec((48, 64), beta=0)


class TestEquivalentCodec:
    @pytest.mark.parametrize(
        'stock',
        [
            MSRAHeatmap(**SIZE),
            MSRAHeatmap(**SIZE, unbiased=True),
            SimCCLabel((192, 256)),
            SimCCLabel((192, 256), smoothing_type='standard', label_smooth_weight=0.1),
        ],
    )
    def test_same_labels_and_keypoints(self, stock):
        ours = equivalent_codec(stock)
        keypoints = np.round(keypoints_in(10, (181, 245), 17))
        expected, actual = stock.encode(keypoints), ours.encode(keypoints)
        for name, label in expected.items():
            np.testing.assert_allclose(actual[name], label, atol=1e-6)
        outputs = [
            np.asarray(v).reshape(17, *np.shape(v)[-2 if k == 'heatmaps' else -1 :])
            for k, v in expected.items()
            if k != 'keypoint_weights'
        ]
        stock_keypoints, _ = stock.decode(*(o.copy() for o in outputs))
        np.testing.assert_allclose(ours.decode(*outputs)[0], stock_keypoints, atol=5e-3)

    def test_others_are_refused(self):
        for codec in (
            RegressionLabel((192, 256)),
            UDPHeatmap(**SIZE, heatmap_type='combined'),
        ):
            with pytest.raises(ValueError, match='`decoder` must be a codec of mmpose_simcc'):
                equivalent_codec(codec)


class TestPrecision:
    @pytest.mark.parametrize('device', DEVICES)
    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize(
        'codec',
        [DARKCodec(**SIZE), DAECCodec(**SIZE, smooth=True), SimCCCodec((192, 256), refine='dark')],
    )
    def test_autocast_moves_no_keypoint(self, codec, dtype, device):
        keypoints = keypoints_in(20, (171, 235), 17)
        encoded = codec.encode(keypoints)
        encoded.pop('keypoint_weights')
        outputs = [
            torch.from_numpy(v).reshape(1, 17, *v.shape[-2 if k == 'heatmaps' else -1 :])
            for k, v in encoded.items()
        ]
        if isinstance(codec, SimCCCodec):
            outputs = [o.clamp(min=1e-6).log() for o in outputs]
        outputs = [o.to(device) for o in outputs]
        expected, _ = codec.decode_tensors(*outputs)
        with torch.autocast(device, dtype=dtype):
            actual, _ = codec.decode_tensors(*outputs)
        assert torch.equal(actual, expected)
