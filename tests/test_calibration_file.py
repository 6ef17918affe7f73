# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The file of a calibration in codecs: against the codec that it names, less what it takes off."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpose.registry import KEYPOINT_CODECS

from mmpose_simcc import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec
from mmpose_simcc.codecs.calibration import Radii, ScoreMaps, made_for, save_calibration
from mmpose_simcc.functional import map_scores, step_values

K = 3
HEATMAP = dict(input_size=(48, 64), heatmap_size=(12, 16), sigma=2)
SIMCC = dict(input_size=(48, 64), sigma=4.0)
CODECS = dict(
    argmax=(HeatmapCodec, dict(HEATMAP, refine='none')),
    quarter=(HeatmapCodec, HEATMAP),
    udp=(HeatmapCodec, dict(HEATMAP, use_udp=True)),
    dark=(DARKCodec, HEATMAP),
    daec=(DAECCodec, HEATMAP),
    simcc=(SimCCCodec, SIMCC),
)
POINTS = [
    [[0.0, 0.0], [0.4, 0.5], [0.9, 0.8]],
    [[0.0, 0.1], [1.0, 0.9]],
    [[0.2, 0.3]],
]
RADII = dict(
    edges=[[0.25, 0.5], [], [0.3]],
    pixels=[[[4, 9], [2, 6], [1, 3]], [[2, 5]], [[3, 3], [1, 2]]],
)
OFFSET = [[0.5, -0.25], [0.0, 1.0], [-0.75, 0.125]]


def content(codec, **changes):
    """A calibration of a codec that changes all there is."""
    is_simcc = isinstance(codec, SimCCCodec)
    decoder = dict(type='SimCCCodec', refine='dark') if is_simcc else dict(type='DARKCodec')
    found = dict(
        decoder=decoder,
        made_for=dict(made_for(codec), num_keypoints=K, flip_test='none', model=None),
        calibrated_on='some pictures',
        offset=OFFSET,
        score_maps=POINTS,
        radii=RADII,
    )
    return {name: value for name, value in {**found, **changes}.items() if value is not None}


def outputs(codec, batch=5):
    """Network outputs with a peak each, tensors of shape (B, K, ...)."""
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(4, 44, (batch, 1, K, 2)).astype(np.float32)
    labels = codec.encode_tensors(keypoints, np.ones((batch, 1, K), np.float32))
    height = torch.from_numpy(rng.uniform(0.1, 1, (batch, K)).astype(np.float32))
    if isinstance(codec, SimCCCodec):
        labels = [labels[f'keypoint_{axis}_labels'][:, 0] for axis in 'xy']
        return [8 * height[..., None] * torch.from_numpy(label * 10) for label in labels]
    return [height[..., None, None] * torch.from_numpy(labels['heatmaps'])]


@pytest.fixture
def calibrated(tmp_path):
    """A codec by its name, beside the same with a calibration."""

    def make(name, **changes):
        kind, arguments = CODECS[name]
        path = tmp_path / 'decoder.json'
        save_calibration(path, content(kind(**arguments), **changes))
        return kind(**arguments), kind(**arguments, calibration=path)

    return make


def nearest_map(scores, points):
    """By numpy's interpolation, keypoint by keypoint."""
    columns = [np.interp(scores[:, k], *np.transpose(row)) for k, row in enumerate(points)]
    return np.stack(columns, -1)


def radius_by_hand(scores):
    found = np.empty((*scores.shape, 2))
    for (b, k), score in np.ndenumerate(scores):
        interval = np.searchsorted(RADII['edges'][k], score, side='right')
        found[b, k] = RADII['pixels'][k][interval]
    return found


@pytest.mark.parametrize('name', CODECS)
class TestCodecs:
    def test_decodes_as_the_file_says(self, name, calibrated):
        codec, changed = calibrated(name)
        maps = outputs(codec)
        inner = SimCCCodec(**SIMCC, refine='dark') if name == 'simcc' else None
        if inner is None:
            inner = DARKCodec(**HEATMAP, use_udp=codec.use_udp)
        keypoints, scores = (np.concatenate(v) for v in inner.batch_decode(*maps))
        found = [np.concatenate(v) for v in changed.batch_decode(*maps)]
        np.testing.assert_allclose(found[0], keypoints - np.float32(OFFSET), atol=1e-5)
        np.testing.assert_allclose(found[1], nearest_map(scores, POINTS), atol=1e-6)
        on_tensors = changed.decode_tensors(*maps)  # as it is exported
        for ours, expected in zip(on_tensors, found):
            np.testing.assert_allclose(ours, expected, atol=1e-4)
        one = changed.decode(*[item[2].numpy() for item in maps])
        for ours, expected in zip(one, found):
            np.testing.assert_allclose(ours[0], expected[2], atol=1e-5)

    def test_labels_stay(self, name, calibrated):
        codec, changed = calibrated(name)
        keypoints = np.random.default_rng(1).uniform(0, 48, (1, K, 2))
        for key, labels in codec.encode(keypoints).items():
            np.testing.assert_array_equal(changed.encode(keypoints)[key], labels)

    def test_radii(self, name, calibrated):
        codec, changed = calibrated(name)
        keypoints, scores = changed.decode_tensors(*outputs(codec))
        radii = changed.keypoint_radius(scores)
        np.testing.assert_allclose(radii, radius_by_hand(scores.numpy()))
        np.testing.assert_allclose(changed.keypoint_radius(scores.numpy()), radii)
        _, without = calibrated(name, radii=None, score_maps=None)
        assert without.keypoint_radius(scores) is None and codec.keypoint_radius(scores) is None
        np.testing.assert_array_equal(without.decode_tensors(*outputs(codec))[0], keypoints)

    def test_nothing_gains(self, name, calibrated):
        """A file that keeps the codec's own decoder and changes nothing."""
        kind, arguments = CODECS[name]
        own = dict(type=kind.__name__, **({'refine': 'none'} if name == 'argmax' else {}))
        codec, changed = calibrated(name, decoder=own, offset=None, score_maps=None, radii=None)
        maps = outputs(codec)
        for ours, expected in zip(changed.decode_tensors(*maps), codec.decode_tensors(*maps)):
            np.testing.assert_array_equal(ours, expected)

    def test_other_number_of_keypoints(self, name, calibrated):
        codec, changed = calibrated(name)
        with pytest.raises(ValueError, match='`calibration` must be a file for the 2 keypoints'):
            changed.decode_tensors(*[item[:, :2] for item in outputs(codec)])

    def test_half_precision(self, name, calibrated):
        codec, changed = calibrated(name)
        maps = [item.to(torch.bfloat16) for item in outputs(codec)]
        keypoints, scores = changed.decode_tensors(*maps)
        assert keypoints.dtype == scores.dtype == torch.float32


@pytest.mark.slow
def test_compiles_whole(calibrated):
    # OpenCV makes the kernel of others
    codec, changed = calibrated('dark', decoder=dict(type='HeatmapCodec'))
    maps = outputs(codec)
    compiled = torch.compile(changed.decode_tensors, fullgraph=True)
    for ours, expected in zip(compiled(*maps), changed.decode_tensors(*maps)):
        torch.testing.assert_close(ours, expected)


class TestFile:
    @pytest.mark.parametrize(
        'change, message',
        [
            (dict(sigma=3), 'made for sigma=2, but the codec has sigma=3'),
            (dict(heatmap_size=(24, 32)), r'made for heatmap_size=\[12, 16\]'),
            (dict(input_size=(96, 128)), r'made for input_size=\[48, 64\]'),
            (dict(use_udp=True), 'made for use_udp=False, but the codec has use_udp=True'),
        ],
    )
    def test_of_another_codec(self, tmp_path, change, message):
        path = tmp_path / 'c.json'
        save_calibration(path, content(HeatmapCodec(**HEATMAP)))
        with pytest.raises(ValueError, match=message):
            DARKCodec(**{**HEATMAP, **change}, calibration=path)

    def test_of_another_representation(self, tmp_path):
        path = tmp_path / 'c.json'
        save_calibration(path, content(HeatmapCodec(**HEATMAP)))
        with pytest.raises(ValueError, match='made for'):
            SimCCCodec(**SIMCC, calibration=str(path))

    @pytest.mark.parametrize(
        'changes, message',
        [
            (dict(decoder=None), '`decoder` must be a dict, and given, but got None'),
            (dict(decoder=dict(type='NoCodec')), 'must be a codec of mmpose_simcc'),
            (dict(decoder=dict(type='DARKCodec', kernel=3)), 'must be a codec of mmpose_simcc'),
            (dict(decoder=dict(refine='none')), 'must be a codec of mmpose_simcc'),
            (dict(offset=[['0.5', '1']] * 3), '`offset` must be finite numbers'),
            (dict(offset=[[0.5, 1.0]] * 2), r'`offset` must be finite numbers of shape \(3, 2\)'),
            (dict(offset=[[0.5], [1, 2], [3, 4]]), '`offset` must be finite numbers'),
            (dict(offset=[[float('nan'), 0]] * 3), '`offset` must be finite numbers'),
            (dict(score_maps=POINTS[:2]), '`score_maps` must be of 3 keypoints'),
            (dict(score_maps=[[[0.1, 0.9], [0.2, 0.1]]] * 3), 'a value in .* that never falls'),
            (dict(score_maps=[[[0.1, 0.2], [0.1, 0.3]]] * 3), 'a rising score'),
            (dict(score_maps=[[[0.1, 1.5]]] * 3), 'a value in'),
            (dict(score_maps=[[]] * 3), '`score_maps` must be finite numbers'),
            (dict(score_maps='all'), '`score_maps` must be a list'),
            (dict(radii=dict(RADII, edges=[[0.5, 0.2], [], [0.3]])), 'rising edges'),
            (dict(radii=dict(RADII, edges=[[0.5], [], [0.3]])), r'`radii.edges` must be .*\(2\)'),
            (dict(radii=dict(RADII, pixels=[[[2, 1]] * 3, [[1, 2]], [[1, 2]] * 2])), 'larger'),
            (dict(radii=RADII['pixels']), '`radii` must be as tools/calibrate.py writes it'),
            (dict(instance_score='best'), '`instance_score` must be one of'),
            (dict(made_for=dict(num_keypoints='3')), 'made for input_size=None'),
        ],
    )
    def test_damaged(self, tmp_path, changes, message):
        path = tmp_path / 'c.json'
        codec = HeatmapCodec(**HEATMAP)
        full = content(codec)
        full.update({name: value for name, value in changes.items() if value is not None})
        full = {name: value for name, value in full.items() if changes.get(name, 0) is not None}
        save_calibration(path, full)
        with pytest.raises(ValueError, match=f"^`calibration` file '{path}': .*{message}"):
            HeatmapCodec(**HEATMAP, calibration=path)

    @pytest.mark.parametrize('name', ['num_keypoints', 'flip_test'])
    def test_missing_of_what_it_is_for(self, tmp_path, name):
        full = content(HeatmapCodec(**HEATMAP))
        del full['made_for'][name]
        save_calibration(tmp_path / 'c.json', full)
        with pytest.raises(ValueError, match=f'`made_for.{name}` must be'):
            HeatmapCodec(**HEATMAP, calibration=tmp_path / 'c.json')

    @pytest.mark.parametrize(
        'text, message',
        [
            ('{', 'is not JSON'),
            ('[1, 2]', 'is not by tools/calibrate.py'),
            (json.dumps(dict(format='mmpose_simcc.learned_delta')), 'by tools/calibrate_daec.py'),
            (
                json.dumps(dict(format='mmpose_simcc.score_calibration')),
                'make it anew: python tools/calibrate.py CONFIG CHECKPOINT --out',
            ),
        ],
    )
    def test_another_file(self, tmp_path, text, message):
        path = tmp_path / 'c.json'
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            HeatmapCodec(**HEATMAP, calibration=str(path))

    def test_no_file(self, tmp_path):
        with pytest.raises(ValueError, match='cannot be read: No such file'):
            HeatmapCodec(**HEATMAP, calibration=tmp_path / 'none.json')
        with pytest.raises(ValueError, match='`calibration` must be the path of a JSON file'):
            HeatmapCodec(**HEATMAP, calibration=dict())

    def test_by_config(self, tmp_path):
        path = tmp_path / 'c.json'
        codec = SimCCCodec(**SIMCC)
        save_calibration(path, content(codec))
        built = KEYPOINT_CODECS.build(dict(type='SimCCCodec', **SIMCC, calibration=Path(path)))
        assert built.calibration.calibrated_on == 'some pictures'


class TestInstanceScore:
    def test_rules(self, calibrated):
        scores, boxes = np.array([[0.9, 0.5, 0.1], [0.3, 0.3, 0.3]]), np.array([0.5, 1.0])
        for rule, expected in dict(bbox_keypoint=[0.25, 0.3], keypoint=[0.5, 0.3]).items():
            _, codec = calibrated('dark', instance_score=rule)
            found = codec.calibration.score_instance(scores, boxes)
            np.testing.assert_allclose(found, expected)


class TestFunctions:
    @pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
    def test_maps_equal_interpolation(self, dtype):
        scores = torch.linspace(-0.5, 1.5, 41, dtype=dtype)[:, None].expand(-1, K)
        maps = ScoreMaps(POINTS)
        np.testing.assert_allclose(maps(scores), nearest_map(scores.numpy(), POINTS), atol=1e-6)
        np.testing.assert_allclose(maps(scores.numpy()), maps(scores), atol=1e-6)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_no_score_overtakes_another(self, seed):
        rng = np.random.default_rng(seed)
        knots = np.sort(rng.random((K, 6)), -1) + np.arange(6) * 1e-3
        values = np.sort(rng.random((K, 6)), -1)
        mapped = map_scores(np.sort(rng.normal(0.5, 0.5, (50, K)), 0), knots, values)
        assert (np.diff(mapped, axis=0) >= 0).all()

    def test_steps_at_and_between_edges(self):
        radii = Radii(**RADII)
        scores = np.array([[0.25, 0.0, 0.3], [0.2499, 9, 0.2999], [0.5, -1, np.nan]])
        expected = [[[2, 6], [2, 5], [1, 2]], [[4, 9], [2, 5], [3, 3]], [[1, 3], [2, 5], [3, 3]]]
        np.testing.assert_allclose(radii(scores), expected)
        tensors = step_values(
            torch.tensor([[0.7]]), torch.tensor([[0.5]]), torch.tensor([[[1.0], [2.0]]])
        )
        assert tensors.tolist() == [[[2.0]]]
