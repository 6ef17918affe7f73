# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import copy
import io
import json
import os
import pickle
import re
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import mmpose
import numpy as np
import pytest
import torch
from conftest import LAUNCHERS, read_predictions, run, run_tool, torch_threads
from mmengine.config import Config
from mmpose.registry import DATASETS, TRANSFORMS
from rich.console import Console
from test_compare_metrics import face_run, run_stock, write_faces

from mmpose_simcc import DAECCodec, DARKCodec, SimCCCodec
from mmpose_simcc.codecs.learned import save_learned_delta
from mmpose_simcc.functional.decode import (
    decode_daec,
    decode_daec_1d,
    heatmap_argmax,
    vector_argmax,
)
from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.workbench.calibration import capture as capture_module
from mmpose_simcc.workbench.calibration import scoring
from mmpose_simcc.workbench.calibration.calibrate import calibrate, learn
from mmpose_simcc.workbench.calibration.capture import (
    SHARD_PEOPLE,
    People,
    build_dataset,
    capture,
    choose_subset,
    read_annotations,
)
from mmpose_simcc.workbench.calibration.records import (
    HeatmapRecords,
    Setting,
    SimCCRecords,
    build_records,
    reference_keypoints,
)
from mmpose_simcc.workbench.calibration.report import plot_calibration, print_report
from mmpose_simcc.workbench.calibration.scoring import Scorer, keypoint_similarity
from mmpose_simcc.workbench.calibration.search import (
    Gain,
    best_candidates,
    bootstrap_gain,
    candidate_deltas,
    climb,
    hold_out,
)
from mmpose_simcc.workbench.calibration.sharing import threaded_map
from mmpose_simcc.workbench.calibration.windows import (
    decode_grid,
    decode_windows,
    decode_windows_1d,
    extract_windows,
    extract_windows_1d,
    smooth_windows,
    weigh_windows,
    weigh_windows_1d,
)
from mmpose_simcc.workbench.toy import make_toy_coco

METAINFO = Path(mmpose.__file__).parent / '.mim/configs/_base_/datasets/coco.py'

CORNERS = ('br', 'ur', 'bl', 'ul')
# whole, fractional, widening the window, past the maximum, nothing left
DELTAS = (-2.0, -1.5, 0.0, 0.25, 3.0, 4.0, 6.75, 7.0, 8.5, 14.9, 20.0)


def noisy_heatmaps(number, size=(16, 20), sigma=2.0, seed=0):
    """Gaussians anywhere on the map, borders included, with noise and a
    second peak: (number, H, W), and their centres (number, 2)."""
    rng = np.random.default_rng(seed)
    W, H = size
    centers = rng.uniform((0, 0), (W - 1, H - 1), (number, 2))
    others = rng.uniform((0, 0), (W - 1, H - 1), (number, 2))
    x, y = np.arange(W), np.arange(H)[:, None]

    def gaussians(at):
        at = at[:, :, None, None]
        return np.exp(-((x - at[:, 0]) ** 2 + (y - at[:, 1]) ** 2) / (2 * sigma**2))

    maps = gaussians(centers) + 0.4 * gaussians(others)
    maps += 0.03 * rng.standard_normal(maps.shape)
    return torch.from_numpy(maps.astype(np.float32)), centers


class TestWindows:
    @pytest.mark.parametrize('border', ['clip', 'symmetric'])
    @pytest.mark.parametrize('corner', CORNERS)
    @pytest.mark.parametrize('blur', [1, 11])
    def test_equals_decode_daec(self, corner, blur, border):
        maps, _ = noisy_heatmaps(40)
        locs, peaks = heatmap_argmax(maps)
        windows = extract_windows(maps, locs, 9 + blur // 2)
        windows = smooth_windows(windows, locs, (16, 20), blur)
        windows = weigh_windows(windows / peaks[:, None, None], locs, peaks, (16, 20), 2.0, border)
        pairs = torch.cartesian_prod(torch.tensor(DELTAS), torch.tensor(DELTAS))
        ours = decode_windows(windows, pairs[None], corner).movedim(0, -1) + locs[:, None]
        for pair, found in zip(pairs, ours.unbind(1)):
            expected = decode_daec(maps.double(), locs, 2.0, pair.double(), corner, blur, border)
            np.testing.assert_allclose(found, expected, atol=2e-4)

    def test_grid_is_every_pair(self):
        maps, _ = noisy_heatmaps(12)
        locs, peaks = heatmap_argmax(maps)
        windows = weigh_windows(
            extract_windows(maps, locs, 9), locs, torch.ones_like(peaks), (16, 20), 2.0
        )
        deltas = torch.tensor(DELTAS)
        pairs = torch.cartesian_prod(deltas, deltas)
        np.testing.assert_allclose(
            decode_grid(windows, deltas, 'ur').flatten(2),
            decode_windows(windows, pairs[None], 'ur'),
            atol=1e-5,
        )

    def test_a_factor_for_each_window(self):
        maps, _ = noisy_heatmaps(12)
        locs, _ = heatmap_argmax(maps)
        windows = weigh_windows(extract_windows(maps, locs, 9), locs, torch.ones(12), (16, 20), 2.0)
        deltas = torch.rand(12, 1, 2) * 8 - 2
        np.testing.assert_allclose(
            decode_windows(windows, deltas)[..., 0].mT + locs,
            decode_daec(maps, locs, 2.0, deltas[:, 0]),
            atol=2e-4,
        )

    def test_equals_decode_daec_1d(self):
        vectors = torch.softmax(torch.randn(30, 64) * 3, dim=-1)
        locs, peaks = vector_argmax(vectors)
        windows = extract_windows_1d(vectors, locs, 15)
        windows = weigh_windows_1d(windows / peaks[:, None], locs, peaks, 64, 4.0)
        deltas = torch.tensor(DELTAS)
        ours = decode_windows_1d(windows, deltas.expand(30, -1)) + locs[:, None]
        for delta, found in zip(deltas, ours.unbind(1)):
            expected = decode_daec_1d(vectors.double(), locs, 4.0, float(delta))
            np.testing.assert_allclose(found, expected, atol=2e-4)


def heatmap_codec(**kwargs):
    return DAECCodec((64, 80), (16, 20), sigma=2, **kwargs)


class TestRecords:
    @pytest.mark.parametrize('border', ['clip', 'symmetric'])
    @pytest.mark.parametrize('smooth', [False, True])
    @pytest.mark.parametrize('corner', CORNERS)
    def test_heatmaps_equal_the_codec(self, corner, smooth, border):
        maps, _ = noisy_heatmaps(30)
        maps = maps.view(6, 5, 20, 16) * 0.1  # an unsure network
        maps[0, 0] = 0
        maps[0, 1] = -1
        maps[0, 2, 3, 4] = float('nan')
        records = HeatmapRecords(heatmap_codec(), low=-2)
        stored = records.record(maps)
        deltas = np.random.default_rng(0).uniform(-2, 7, (3, 5, 2))
        found = records.decode(stored, Setting(corner, smooth, border), deltas)
        for i, delta in enumerate(deltas):
            codec = heatmap_codec(corner=corner, smooth=smooth, border=border, delta=delta.tolist())
            expected, _ = codec.batch_decode(maps)
            # float16 windows: 0.002 cells of 4 pixels
            np.testing.assert_allclose(found[:, i], np.concatenate(expected), atol=0.008)

    def test_vectors_equal_the_codec(self):
        codec = SimCCCodec((64, 80), 2.0, sigma=(4, 6))
        generator = torch.Generator().manual_seed(0)
        x, y = (torch.randn(6, 5, bins, generator=generator) * 4 for bins in codec.num_bins)
        x[0, 0, 3] = float('nan')
        x[0, 1] = 0
        records = SimCCRecords(codec, low=-3)
        stored = records.record(x, y)
        for pair in ((-3, 0), (0.5, 2), (12, 12.5)):
            deltas = np.broadcast_to(pair, (1, 5, 2))
            found = records.decode(stored, Setting(), deltas)[:, 0]
            expected, _ = SimCCCodec(
                (64, 80), 2.0, sigma=(4, 6), refine='daec', delta=pair
            ).batch_decode(x, y)
            np.testing.assert_allclose(found, np.concatenate(expected), atol=0.004)

    @pytest.mark.parametrize(
        'records',
        [
            HeatmapRecords(heatmap_codec(), low=-2),
            SimCCRecords(SimCCCodec((64, 80), sigma=4), low=-2),
        ],
    )
    def test_pairs_are_the_grid(self, records):
        if records.representation == 'heatmap':
            outputs = (noisy_heatmaps(10)[0].view(2, 5, 20, 16),)
        else:
            outputs = torch.randn(2, 5, 128), torch.randn(2, 5, 160)
        stored = records.record(*outputs)
        deltas = np.array([-2.0, 0.5, 3.0])
        grid = records.decode_pairs(stored, Setting(), deltas)
        pairs = np.stack(np.meshgrid(deltas, deltas, indexing='ij'), -1)
        flat = np.broadcast_to(pairs.reshape(9, 1, 2), (9, 5, 2))
        np.testing.assert_allclose(
            grid.reshape(2, 9, 5, 2), records.decode(stored, Setting(), flat), atol=1e-3
        )

    def test_a_large_training_set_fits(self):
        """150,000 people of 17 keypoints at sigma 2 in 4 GB."""
        records = HeatmapRecords(DAECCodec((192, 256), (48, 64), sigma=2), low=-2)
        stored = records.record(torch.rand(8, 17, 64, 48))
        size = sum(array.nbytes for array in stored.values()) / 8
        assert 150_000 * size < 4e9
        # at a time only a shard is in memory
        assert SHARD_PEOPLE * size < 10e6

    def test_other_decoders_are_refused(self):
        udp = dict(type='UDPHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=2)
        with pytest.raises(ValueError, match='`decoder` must be .*UDPHeatmap'):
            build_records(dict(udp, heatmap_type='combined'), -2)
        assert build_records(udp, -2).codec.use_udp

    def test_rtmpose_windows_are_those_of_its_probabilities(self):
        """softmax(10 z), as its loss has it."""
        decoder = dict(type='SimCCLabel', input_size=(64, 64), sigma=4.0, normalize=False)
        loss = dict(type='KLDiscretLoss', beta=10.0, label_softmax=True)
        records = build_records(decoder, loss=loss)
        z = torch.rand(2, 3, 128)
        stored = records.record(z, z)
        probabilities = (10 * z).softmax(-1)
        np.testing.assert_allclose(
            stored['peaks'], probabilities.amax(-1)[..., None].expand(-1, -1, 2), rtol=1e-5
        )


class TestSearch:
    def test_candidates(self):
        deltas = candidate_deltas(-1, 1.3, 0.25)
        np.testing.assert_allclose(deltas, np.arange(-1, 1.26, 0.25))

    def test_hold_out_keeps_images_together(self):
        img_ids = np.random.default_rng(0).integers(0, 50, 300)
        held = hold_out(img_ids, 0.2)
        assert not set(img_ids[held]) & set(img_ids[~held])
        assert len(set(img_ids[held])) == round(0.2 * len(set(img_ids)))

    def test_too_few_images(self):
        with pytest.raises(ValueError, match='1 images cannot be split'):
            hold_out(np.zeros(9), 0.2)

    def test_subset_is_of_whole_images(self):
        img_ids = np.random.default_rng(0).integers(0, 50, 300)
        chosen = choose_subset(img_ids, 100)
        assert 100 <= len(chosen) < 100 + np.bincount(img_ids).max()
        left = np.delete(np.arange(300), chosen)
        assert not set(img_ids[chosen]) & set(img_ids[left])

    def test_best_of_equals_is_nearest_to_the_empirical(self):
        values = np.array([1.0, 3.0, 3.0, 3.0])
        best = best_candidates(values, np.arange(4.0), 2.0, 2)
        np.testing.assert_array_equal(best, [[2, 2], [1, 1]])

    def test_best_pair(self):
        values = np.zeros((3, 3))
        values[2, 0] = 1
        np.testing.assert_array_equal(best_candidates(values, np.arange(3.0), 0.0, 1), [[2, 0]])

    def test_bootstrap_covers_the_truth(self):
        """Of repeated experiments about 95 % of the intervals hold the true
        gain."""
        rng = np.random.default_rng(3)
        hits = 0
        for _ in range(60):
            img_ids = np.repeat(np.arange(80), 2)
            of_image = np.repeat(rng.normal(0, 1, 80), 2)
            new = 0.3 + of_image + rng.normal(0, 0.2, 160)
            gain = bootstrap_gain(new, np.zeros(160), np.ones(160), img_ids)
            hits += gain.low <= 0.3 <= gain.high
        assert hits >= 51  # P(fewer) < 0.1 % at 93 %

    def test_climb_skips_what_is_not_supported(self):
        gains = {
            (1, 0): Gain(0.1, -0.1, 0.2),
            (2, 0): Gain(0.2, 0.1, 0.3),
            (3, 2): Gain(0.2, 0.1, 0.3),
        }
        chosen, steps = climb(lambda i, j: gains[i, j], [0.5, 0.6, 0.6, 0.59])
        assert chosen == 2
        assert [step.supported for step in steps] == [False, True, False]
        assert [step.against for step in steps] == [0, 0, 2]


PCK_CONFIG = Config(dict(test_evaluator=dict(type='PCKAccuracy', thr=0.01, norm_item='bbox')))


def synthetic_people(folder, records, maps, truth, metainfo):
    """People whose outputs are given: maps (N, K, H, W), truth (N, K, 2) in
    input pixels, which are image pixels here; two to an image."""
    N = len(maps)
    size = np.array(records.codec.input_size, np.float32)
    argmax = records.references['argmax'].batch_decode(maps)
    arrays = dict(
        id=np.arange(N),
        img_id=np.arange(N) // 2,
        category_id=np.ones(N, int),
        area=np.full(N, 4000.0),
        input_size=np.tile(size, (N, 1)),
        input_scale=np.tile(size, (N, 1)),
        input_center=np.tile(size / 2, (N, 1)),
        gt_keypoints=truth[:, None],
        gt_keypoints_visible=np.ones((N, 1, truth.shape[1])),
        gt_bboxes=np.tile(np.float32([0, 0, *size]), (N, 1, 1)),
        scores=np.concatenate(argmax[1]),
    )
    shards = []
    for start in range(0, N, SHARD_PEOPLE):
        shards.append(folder / f'{start}.npz')
        part = maps[start : start + SHARD_PEOPLE]
        np.savez(shards[-1], **records.record(part), **reference_keypoints(records, (part,)))
    return People(shards, arrays, metainfo, ann_file='')


@pytest.fixture(scope='module')
def metainfo():
    return DATASETS.build(dict(type='CocoDataset', ann_file='', lazy_init=True)).metainfo


@pytest.fixture(scope='module')
def biased(tmp_path_factory, metainfo):
    """A network with a bias: each map has a tail to the lower right, which
    pulls a symmetric window off the truth, longer for keypoints 8 and up."""
    rng = np.random.default_rng(0)
    N, K, W, H = 150, 17, 24, 24
    truth = rng.uniform(8, 15, (N, K, 2))
    x, y = np.arange(W), np.arange(H)[:, None]
    far = np.where(np.arange(K) < 8, 3.0, 6.0)[None, :, None, None]
    center_x, center_y = truth[..., :1, None], truth[..., 1:, None]

    def gaussian(dx, dy, sigma):
        return np.exp(-((x - center_x - dx) ** 2 + (y - center_y - dy) ** 2) / (2 * sigma**2))

    maps = gaussian(0, 0, 2.0) + 0.3 * gaussian(far, far, 1.5)
    maps = torch.from_numpy(maps.astype(np.float32))
    records = HeatmapRecords(DAECCodec((96, 96), (W, H), sigma=2), low=-2)
    people = synthetic_people(
        tmp_path_factory.mktemp('biased'), records, maps, (truth * 4).astype(np.float32), metainfo
    )
    calibration = learn(PCK_CONFIG, people, records, Setting(), candidate_deltas(-2, 7, 0.5))
    return calibration, people, maps, truth * 4


class TestSharing:
    @pytest.fixture(autouse=True)
    def _three_threads(self):
        with torch_threads(3):
            yield

    def test_order_and_threads(self):
        meet = threading.Barrier(3, timeout=60)  # three wait for each other

        def function(item):
            meet.wait()
            return item, threading.get_ident(), torch.get_num_threads()

        items, threads, inner = zip(*threaded_map(function, range(9)))
        assert items == tuple(range(9))
        assert len(set(threads)) == 3
        assert set(inner) == {1}
        assert torch.get_num_threads() == 3

    def test_an_error_ends_it(self):
        done = []

        def function(item):
            done.append(item)
            if item == 1:
                raise ValueError('item 1')
            time.sleep(0.01)

        with pytest.raises(ValueError, match='item 1'):
            list(threaded_map(function, range(1000)))
        assert len(done) < 100
        assert torch.get_num_threads() == 3

    def test_threads_do_not_change_what_is_learned(self, tmp_path, metainfo):
        maps, centers = noisy_heatmaps(2 * SHARD_PEOPLE * 17 + 170)
        maps, truth = maps.view(-1, 17, 20, 16), 4 * centers.reshape(-1, 17, 2)
        records = HeatmapRecords(heatmap_codec(), low=-2)
        people = synthetic_people(tmp_path, records, maps, truth.astype(np.float32), metainfo)
        found = []
        for threads in (1, 3):
            with torch_threads(threads):
                learned = learn(PCK_CONFIG, people, records, Setting(), candidate_deltas(-2, 7, 1))
            learned.save(tmp_path / f'{threads}.json')
            found.append((tmp_path / f'{threads}.json').read_text())
        assert found[0] == found[1]


def brute_force(maps, truth, deltas, fit):
    """The factor with the largest mean similarity, by the codec."""
    sigmas = np.array(
        [
            0.026,
            0.025,
            0.025,
            0.035,
            0.035,
            0.079,
            0.079,
            0.072,
            0.072,
            0.062,
            0.062,
            0.107,
            0.107,
            0.087,
            0.087,
            0.089,
            0.089,
        ]
    )
    values = []
    for delta in deltas:
        codec = DAECCodec((96, 96), (24, 24), sigma=2, delta=delta)
        found = np.concatenate(codec.batch_decode(maps)[0])
        square = np.square(found - truth).sum(-1)
        values.append(np.exp(-square / (2 * 4000 * (2 * sigmas) ** 2))[fit].mean(0))
    return np.array(values)


class TestLearn:
    def test_curve_and_keypoints_by_brute_force(self, biased):
        calibration, people, maps, truth = biased
        deltas = candidate_deltas(-2, 7, 0.5)
        fit = ~hold_out(people.arrays['img_id'], 0.2)
        values = brute_force(maps, truth, deltas.tolist(), fit)
        curve = calibration.curves[0]
        assert curve.setting == Setting('br', False)
        np.testing.assert_allclose(curve.similarity, values.mean(-1), atol=1e-4)
        choices = {choice.name: choice for choice in calibration.choices}
        by_keypoint = np.array(choices['keypoint'].delta)[:, 0]
        np.testing.assert_array_equal(by_keypoint, deltas[values.argmax(0)])

    def test_both_borders_are_compared(self, biased):
        calibration, *_ = biased
        by_border = [c.setting for c in calibration.curves if c.setting.border == 'symmetric']
        assert by_border == [Setting('br', False, 'symmetric')]
        assert set(calibration.metric_images) == {'fit', 'held_out'}
        assert calibration.settings_learned_for['border'] == 'clip'

    def test_finer_is_kept_where_it_helps(self, biased):
        """The two groups of keypoints need different factors."""
        calibration, *_ = biased
        assert calibration.chosen.name.startswith('keypoint')
        gains = [choice.gain for choice in calibration.choices[1:] if choice.supported]
        assert gains and all(gain.low > 0 for gain in gains)
        assert calibration.verdict.gain.low > 0

    def test_the_metric_chooses_the_whole_factor(self, biased):
        calibration, people, maps, truth = biased
        fit = ~hold_out(people.arrays['img_id'], 0.2)
        pck = []
        for delta in range(-2, 8):
            codec = DAECCodec((96, 96), (24, 24), sigma=2, delta=delta)
            found = np.concatenate(codec.batch_decode(maps)[0])
            far = np.linalg.norm(found - truth, axis=-1)[fit]
            pck.append((far < 0.01 * 96).mean())
        np.testing.assert_allclose(calibration.curves[0].metrics, pck, atol=2e-3)
        whole = calibration.choices[1]
        assert whole.delta == range(-2, 8)[int(np.argmax(pck))]

    def test_dark_less_its_offset(self, biased):
        """What is taken off is measured on the one part and judged on the other."""
        calibration, people, maps, truth = biased
        held = hold_out(people.arrays['img_id'], 0.2)
        found = np.concatenate(DARKCodec((96, 96), (24, 24), sigma=2).batch_decode(maps)[0])
        found -= np.median((found - truth)[~held], axis=0)
        *_, dark, less_offset = calibration.references
        assert (dark.name, less_offset.name) == ('dark', 'dark, less offset')
        far = np.linalg.norm(found - truth, axis=-1)
        for score, members in ((less_offset.fit, ~held), (less_offset.held_out, held)):
            pck = (far[members] < 0.01 * 96).mean()
            assert score.metrics[calibration.metric] == pytest.approx(pck, abs=2e-3)
        assert less_offset.held_out.similarity > dark.held_out.similarity + 0.01
        assert (less_offset.against, dark.against) == ('dark', 'argmax')
        assert less_offset.gain.value == pytest.approx(
            less_offset.held_out.similarity - dark.held_out.similarity, abs=1e-6
        )

    @pytest.mark.parametrize('without_sigmas', [False, True])
    def test_an_error_chooses_the_lowest(self, biased, without_sigmas, tmp_path):
        """EPE, and data that have no constants for the similarity, as faces have none."""
        _, people, maps, truth = biased
        if without_sigmas:
            people = replace(people, metainfo=dict(people.metainfo, sigmas=np.array([])))
        records = HeatmapRecords(DAECCodec((96, 96), (24, 24), sigma=2), low=-2)
        cfg = Config(dict(test_evaluator=dict(type='EPE')))
        calibration = learn(cfg, people, records, Setting(), candidate_deltas(-2, 7, 0.5))
        fit = ~hold_out(people.arrays['img_id'], 0.2)
        epe = []
        for delta in range(-2, 8):
            codec = DAECCodec((96, 96), (24, 24), sigma=2, delta=delta)
            found = np.concatenate(codec.batch_decode(maps)[0])
            epe.append(np.linalg.norm(found - truth, axis=-1)[fit].mean())
        np.testing.assert_allclose(calibration.curves[0].metrics, epe, atol=2e-3)
        whole = calibration.choices[1]
        assert whole.delta == range(-2, 8)[int(np.argmin(epe))]
        errors = [choice.held_out.metrics['EPE'] for choice in calibration.choices]
        assert calibration.chosen.name.startswith('keypoint')
        assert calibration.chosen.held_out.metrics['EPE'] <= errors[0]
        console = Console(file=io.StringIO(), width=140)
        calibration.source['data'] = dict(people=len(people))
        print_report(calibration, console)
        (best,) = re.findall(r'^ +(-?\d+) +[\d.]+(?: e)? \*', console.file.getvalue(), re.M)[:1]
        assert int(best) == whole.delta
        assert plot_calibration(calibration, tmp_path / 'plot.png').stat().st_size > 10_000

    def test_noise_supports_nothing_finer(self, tmp_path, metainfo):
        """Truth scattered evenly around a symmetric map: no factor of its
        own is real for a keypoint."""
        rng = np.random.default_rng(1)
        N, K = 120, 17
        centers = rng.uniform(9, 14, (N, K, 2))
        x, y = np.arange(24), np.arange(24)[:, None]
        maps = np.exp(-((x - centers[..., :1, None]) ** 2 + (y - centers[..., 1:, None]) ** 2) / 8)
        maps = torch.from_numpy(maps.astype(np.float32))
        truth = 4 * (centers + rng.normal(0, 0.5, centers.shape))
        records = HeatmapRecords(DAECCodec((96, 96), (24, 24), sigma=2), low=-2)
        people = synthetic_people(tmp_path, records, maps, truth.astype(np.float32), metainfo)
        cfg = Config(dict(test_evaluator=dict(type='PCKAccuracy', thr=0.02, norm_item='bbox')))
        calibration = learn(cfg, people, records, Setting(), candidate_deltas(-2, 7, 0.5))
        assert not calibration.chosen.name.startswith('keypoint')
        # and DARK is exact on a Gaussian
        assert calibration.verdict.against == 'dark'
        assert calibration.verdict.gain.low <= 0

    def test_unknown_metric(self, biased):
        _, people, *_ = biased
        records = HeatmapRecords(DAECCodec((96, 96), (24, 24), sigma=2), low=-2)
        with pytest.raises(ValueError, match=r"metric.*PCK.*'AP'"):
            learn(PCK_CONFIG, people, records, Setting(), candidate_deltas(-2, 7, 1), metric='AP')

    def test_file_for_the_codec(self, biased, tmp_path):
        calibration, _, maps, _ = biased
        path = tmp_path / 'delta.json'
        calibration.save(path)
        content = json.loads(path.read_text())
        for name in ('version', 'metric', 'settings', 'curves', 'choices'):
            assert content[name]
        codec = DAECCodec((96, 96), (24, 24), sigma=2, delta=str(path))
        np.testing.assert_allclose(codec.delta, calibration.chosen.delta)
        same = DAECCodec((96, 96), (24, 24), sigma=2, delta=calibration.chosen.delta)
        np.testing.assert_array_equal(
            codec.batch_decode(maps[:2])[0], same.batch_decode(maps[:2])[0]
        )

    def test_factor_for_a_symmetric_border(self, tmp_path, metainfo):
        """Keypoints at the border of 12 x 12 cells: learned for the border that is asked for,
        better there than a factor for the clipped window, and refused by a codec with the other."""
        rng = np.random.default_rng(3)
        truth = rng.uniform(0, 11, (60, 17, 2)).astype(np.float32)
        x, y = np.arange(12), np.arange(12)[:, None]
        maps = np.exp(-((x - truth[..., :1, None]) ** 2 + (y - truth[..., 1:, None]) ** 2) / 8)
        maps = torch.from_numpy(maps.astype(np.float32))
        codec = DAECCodec((48, 48), (12, 12), sigma=2, border='symmetric')
        records = HeatmapRecords(codec)
        assert records.own_setting == Setting(border='symmetric')
        people = synthetic_people(tmp_path, records, maps, truth * 4, metainfo)
        deltas = candidate_deltas(-2, 7, 0.5)
        symmetric, clipped = (
            learn(PCK_CONFIG, people, records, Setting(border=border), deltas)
            for border in ('symmetric', 'clip')
        )
        assert symmetric.chosen.held_out.similarity > clipped.chosen.held_out.similarity
        assert symmetric.settings_learned_for['border'] == 'symmetric'
        path = tmp_path / 'delta.json'
        symmetric.save(path)
        same = DAECCodec((48, 48), (12, 12), sigma=2, border='symmetric', delta=str(path))
        np.testing.assert_array_equal(same.delta, np.float32(symmetric.chosen.delta))
        with pytest.raises(ValueError, match="border='symmetric', but the codec has border='clip'"):
            DAECCodec((48, 48), (12, 12), sigma=2, delta=str(path))

    def test_plot(self, biased, tmp_path):
        path = plot_calibration(biased[0], tmp_path / 'plot.png')
        assert path.stat().st_size > 10_000


class TestLearnedFile:
    SETTINGS = dict(
        sigma=2,
        heatmap_size=[48, 64],
        blur_kernel_size=11,
        corner='br',
        smooth=False,
        border='clip',
    )

    def save(self, path, delta=3.5, representation='heatmap', **settings):
        save_learned_delta(path, representation, delta, {**self.SETTINGS, **settings}, {})
        return str(path)

    def codec(self, path, **kwargs):
        arguments = dict(input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
        return DAECCodec(**{**arguments, **kwargs}, delta=path)

    @pytest.mark.parametrize('delta', [3.5, [3.5, 2.0], [[1.0, 2.0]] * 17])
    def test_round_trip(self, tmp_path, delta):
        path = self.save(tmp_path / 'd.json', delta)
        np.testing.assert_array_equal(self.codec(path).delta, delta)

    @pytest.mark.parametrize(
        'change, message',
        [
            (dict(sigma=3), 'sigma=2, but the codec has sigma=3'),
            (dict(heatmap_size=(72, 96)), r'heatmap_size=\[48, 64\], but'),
            (dict(corner='ul'), "corner='br', but the codec has corner='ul'"),
            (dict(smooth=True), 'smooth=False, but the codec has smooth=True'),
            (dict(border='symmetric'), "border='clip', but the codec has border='symmetric'"),
        ],
    )
    def test_other_settings(self, tmp_path, change, message):
        path = self.save(tmp_path / 'd.json')
        with pytest.raises(ValueError, match=message):
            self.codec(path, **change)

    def test_file_from_before_there_was_a_border(self, tmp_path):
        settings = {name: value for name, value in self.SETTINGS.items() if name != 'border'}
        path = str(tmp_path / 'd.json')
        save_learned_delta(path, 'heatmap', 2.5, settings, {})
        assert self.codec(path).delta == 2.5
        with pytest.raises(ValueError, match="border='clip', but"):
            self.codec(path, border='symmetric')

    def test_kernel_matters_only_with_smoothing(self, tmp_path):
        path = self.save(tmp_path / 'd.json')
        self.codec(path, blur_kernel_size=5)
        path = self.save(tmp_path / 'e.json', smooth=True)
        with pytest.raises(ValueError, match='blur_kernel_size=11'):
            self.codec(path, smooth=True, blur_kernel_size=5)

    def test_missing(self, tmp_path):
        with pytest.raises(ValueError, match='delta.*cannot be read'):
            self.codec(str(tmp_path / 'none.json'))

    @pytest.mark.parametrize(
        'text, message',
        [('{', 'not JSON'), ('[1, 2]', 'holds no factor'), ('{"delta": 3}', 'holds no factor')],
    )
    def test_malformed(self, tmp_path, text, message):
        path = tmp_path / 'd.json'
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            self.codec(str(path))

    def test_malformed_factor(self, tmp_path):
        with pytest.raises(ValueError, match='`delta` must be'):
            self.codec(self.save(tmp_path / 'd.json', ['a', 'b']))

    def test_simcc(self, tmp_path):
        path = str(tmp_path / 'd.json')
        settings = dict(sigma=[4, 4], simcc_split_ratio=2.0, input_size=[192, 256])
        save_learned_delta(path, 'simcc', [1.5, -1.0], settings, {})
        arguments = dict(input_size=(192, 256), sigma=4, refine='daec')
        assert SimCCCodec(**arguments, delta=path).delta == (1.5, -1.0)
        with pytest.raises(ValueError, match='simcc_split_ratio=2.0, but'):
            SimCCCodec(**arguments, simcc_split_ratio=3.0, delta=path)
        with pytest.raises(ValueError, match="'simcc', not 'heatmap'"):
            self.codec(path)


def make_toy(folder, repo_root, train):
    """A config on toy data, and weights that know nothing."""
    make_toy_coco(folder / 'data', train=train, val=20, seed=0, workers=1)
    base = 'configs/body_2d_keypoint/topdown_heatmap/toy_coco/td-hm_res18_1xb8-4e_toy-coco-64x64.py'
    cfg = Config.fromfile(repo_root / base)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.dataset.data_root = f'{folder}/data/'
        loader.num_workers = 0
        loader.pop('persistent_workers', None)
    cfg.dump(folder / 'config.py')
    cfg = Config.fromfile(folder / 'config.py')
    torch.manual_seed(0)
    torch.save(build_model(cfg).state_dict(), folder / 'weights.pth')
    return cfg, str(folder / 'config.py'), str(folder / 'weights.pth')


def test_faces(tmp_path):
    """300W: errors between the eyes, no constants, two faces in some pictures."""
    face = face_run('faces', write_faces(tmp_path / 'data', 12, 0), tmp_path)
    face.cfg.model.head.decoder = dict(face.cfg.model.head.decoder, type='DAECCodec')
    calibration = calibrate(face.cfg, face.checkpoint, tmp_path, split='test', step=1)
    assert calibration.metric == 'NME'
    assert calibration.source['data']['people'] == 18
    values = calibration.curves[0].metrics
    assert (values > 0).all() and len(set(values)) > 1
    # the metric by MMPose's own test of the chosen whole factor, on all people
    whole = calibration.choices[1]
    codec = dict(face.cfg.model.head.decoder, delta=whole.delta)
    metrics = run_stock(face, codec, tmp_path / 'stock')
    held = hold_out(np.repeat(np.arange(12), [1, 2] * 6), 0.2)
    # NME is a mean over labelled points: of both parts by their number of points
    truth = json.loads(face.annotation_files[0].read_text())['annotations']
    points = np.array([np.reshape(a['keypoints'], (-1, 3))[:, 2].sum() for a in truth])
    parts = [points[~held].sum(), points[held].sum()]
    mean = np.average([whole.fit.metrics['NME'], whole.held_out.metrics['NME']], weights=parts)
    assert mean == pytest.approx(metrics['NME'], rel=1e-3)


@pytest.fixture(scope='module')
def toy(tmp_path_factory, repo_root):
    return make_toy(tmp_path_factory.mktemp('toy'), repo_root, train=5)


def read_shards(people):
    return [dict(np.load(path)) for path in people.shards]


@TRANSFORMS.register_module()
class WithoutRepr:
    def __init__(self, value):
        self.value = value

    def __call__(self, results):
        return results


def move_data(cfg, folder):
    (folder / 'data').rename(folder / 'moved')
    cfg.val_dataloader.dataset.data_root = f'{folder}/moved/'


def touch_picture(cfg, folder):
    os.utime(sorted(folder.glob('data/val2017/*.jpg'))[0], ns=(1, 1))


def own_sigmas(value):
    def change(cfg, folder):
        text = METAINFO.read_text().replace('0.026', value)
        (folder / 'own.py').write_text('# my own\n' + text)
        cfg.val_dataloader.dataset.metainfo = dict(from_file=str(folder / 'own.py'))

    return change


def edit_annotations(cfg, folder):
    (path,) = folder.glob('data/annotations/*val2017.json')
    content = json.loads(path.read_text())
    content['annotations'][0]['keypoints'][0] += 1
    path.write_text(json.dumps(content))


def change_transform(cfg, folder):
    cfg.test_dataloader.dataset.pipeline[-1]['value'] = 2


def flip_test(cfg, folder):
    cfg.model.test_cfg.flip_test = not cfg.model.test_cfg.flip_test


# what is changed, and whether the same pass serves
PASSES = {
    'nothing': (lambda cfg, folder: None, True),
    'data folder': (move_data, True),
    'metainfo of the same content': (own_sigmas('0.026'), True),
    'custom sigmas': (own_sigmas('0.03'), False),
    'annotations': (edit_annotations, False),
    'a picture touched': (touch_picture, False),
    'a transform': (change_transform, False),
    'flip test': (flip_test, False),
}


class TestCapture:
    def test_no_augmentation_and_annotated_boxes(self, toy):
        cfg, *_ = toy
        cfg = cfg.copy()
        cfg.test_dataloader.dataset.bbox_file = 'detections.json'
        dataset = build_dataset(cfg, 'train')
        assert str(dataset.pipeline) == str(build_dataset(cfg, 'val').pipeline)
        first, again = dataset[3], dataset[3]
        assert torch.equal(first['inputs'], again['inputs'])
        assert dataset.ann_file.endswith('train2017.json')

    def test_in_parts_as_at_once(self, toy, tmp_path, monkeypatch):
        monkeypatch.setattr(capture_module, 'PART_IMAGES', 3)
        at_once = build_dataset(toy[0], 'val')
        in_parts = build_dataset(toy[0], 'val', tmp_path)
        assert len(list(tmp_path.rglob('annotations-*.json'))) > 2
        assert len(in_parts) == len(at_once) > 3
        for index in range(len(at_once)):
            expected = at_once.get_data_info(index)
            expected['segmentation'] = None
            expected['raw_ann_info'].pop('segmentation', None)
            assert repr(in_parts.get_data_info(index)) == repr(expected)
        copied = pickle.loads(pickle.dumps(in_parts.data_bytes))
        assert copied == in_parts.data_bytes[0 : in_parts.data_address[-1]]

    @pytest.mark.parametrize('text', ['', '[]', '{"images": [{"id": 1}, ', '{"info": nothing}'])
    def test_damaged_annotations(self, tmp_path, text):
        path = tmp_path / 'annotations.json'
        path.write_text(text)
        with pytest.raises(ValueError, match='annotations.json is not in COCO format: '):
            read_annotations(path)

    def test_missing_data(self, toy):
        cfg = toy[0].copy()
        cfg.train_dataloader.dataset.data_root = 'nowhere/'
        with pytest.raises(ValueError, match='there is no nowhere/anno'):
            build_dataset(cfg, 'train')

    def test_config_of_a_training_alone(self, toy):
        cfg = toy[0].copy()
        cfg.test_dataloader = cfg.val_dataloader = None
        with pytest.raises(ValueError, match='neither `test_dataloader` nor `val_dataloader`'):
            build_dataset(cfg, 'train')

    def test_interrupted_goes_on(self, toy, tmp_path, monkeypatch):
        cfg, _, checkpoint = toy
        monkeypatch.setattr(capture_module, 'SHARD_PEOPLE', 8)
        records = build_records(cfg.model.head.decoder, -2)
        arguments = cfg, checkpoint, records, 'val'
        whole = read_shards(capture(*arguments, tmp_path / 'a'))
        assert len(whole) > 3

        done = []

        def record(*outputs):
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(1)
            return HeatmapRecords.record(records, *outputs)

        with monkeypatch.context() as patch:
            patch.setattr(records, 'record', record)
            with pytest.raises(KeyboardInterrupt):
                capture(*arguments, tmp_path / 'b')
        kept = sorted((tmp_path / 'b').rglob('*.npz'))
        assert len(kept) == 2
        times = [path.stat().st_mtime_ns for path in kept]

        resumed = read_shards(capture(*arguments, tmp_path / 'b'))
        assert [path.stat().st_mtime_ns for path in kept] == times
        assert len(resumed) == len(whole)
        for ours, theirs in zip(resumed, whole):
            assert ours.keys() == theirs.keys()
            for name in ours:
                np.testing.assert_array_equal(ours[name], theirs[name])

    def test_other_weights_are_another_pass(self, toy, tmp_path):
        cfg, _, checkpoint = toy
        records = build_records(cfg.model.head.decoder, -2)
        torch.manual_seed(1)
        torch.save(build_model(cfg).state_dict(), tmp_path / 'other.pth')
        first = capture(cfg, checkpoint, records, 'val', tmp_path)
        other = capture(cfg, str(tmp_path / 'other.pth'), records, 'val', tmp_path)
        assert first.shards[0] != other.shards[0]

    @pytest.mark.parametrize('change,same', PASSES.values(), ids=PASSES)
    def test_what_is_another_pass(self, toy, tmp_path, change, same):
        cfg, _, checkpoint = toy
        cfg = copy.deepcopy(cfg)
        shutil.copytree(
            Path(cfg.val_dataloader.dataset.data_root),
            tmp_path / 'data',
            copy_function=shutil.copy2,
        )
        cfg.val_dataloader.dataset.data_root = f'{tmp_path}/data/'
        # an object by whose address nothing may be told
        cfg.test_dataloader.dataset.pipeline.append(dict(type='WithoutRepr', value=1))
        records = build_records(cfg.model.head.decoder, -2)
        first = capture(cfg, checkpoint, records, 'val', tmp_path / 'work')
        change(cfg, tmp_path)
        other = capture(cfg, checkpoint, records, 'val', tmp_path / 'work')
        assert (first.shards == other.shards) == same

    def test_keypoints_are_those_of_the_model(self, toy, tmp_path):
        """The quarter shift from the records, in image pixels, is what the
        model itself predicts."""
        cfg, _, checkpoint = toy
        records = build_records(cfg.model.head.decoder, -2)
        people = capture(cfg, checkpoint, records, 'val', tmp_path)
        model = build_model(cfg)
        model.load_state_dict(torch.load(checkpoint, weights_only=True))
        dataset = build_dataset(cfg, 'val')
        batch = [dataset[i] for i in range(6)]
        with torch.no_grad():
            samples = model.test_step(
                dict(
                    inputs=[item['inputs'] for item in batch],
                    data_samples=[item['data_samples'] for item in batch],
                )
            )
        found_by_quarter = read_predictions(people, 'quarter')
        for sample, found, score in zip(samples, found_by_quarter, people.arrays['scores']):
            np.testing.assert_allclose(found, sample.pred_instances.keypoints[0], atol=0.01)
            np.testing.assert_allclose(score, sample.pred_instances.keypoint_scores[0], rtol=1e-3)

    def test_inside_a_visibility_head(self, toy, tmp_path):
        """The same weights give the same factors."""
        cfg, _, checkpoint = toy
        other = copy.deepcopy(cfg)
        other.model.head = dict(type='VisPredictHead', pose_cfg=cfg.model.head)
        model = build_model(other)
        plain = torch.load(checkpoint, weights_only=True)
        head = {name[5:]: value for name, value in plain.items() if name.startswith('head.')}
        model.head.pose_head.load_state_dict(head)
        model.load_state_dict(plain, strict=False)  # the backbone
        torch.save(model.state_dict(), tmp_path / 'inside.pth')
        first, second = (
            calibrate(config, weights, tmp_path, 'val', step=1)
            for config, weights in ((cfg, checkpoint), (other, str(tmp_path / 'inside.pth')))
        )
        assert second.settings_learned_for == first.settings_learned_for
        assert [c.delta for c in second.choices] == [c.delta for c in first.choices]
        for mine, plain in zip(second.curves, first.curves):
            np.testing.assert_allclose(mine.similarity, plain.similarity, rtol=1e-5)
            assert np.ptp(mine.similarity) > 0


class TestScorer:
    def people(self, toy, tmp_path):
        cfg, _, checkpoint = toy
        records = build_records(cfg.model.head.decoder, -2)
        return capture(cfg, checkpoint, records, 'val', tmp_path)

    def test_perfect_on_part_of_the_images(self, toy, tmp_path):
        """Images that do not count are no misses."""
        people = self.people(toy, tmp_path)
        people.arrays['scores'][:] = 1
        members = hold_out(people.arrays['img_id'], 0.5)
        truth = people.arrays['gt_keypoints'][:, 0].copy()
        assert Scorer(toy[0], people, members)(truth[members])['coco/AP'] == 1
        truth[~members] += 1000
        assert Scorer(toy[0], people, members)(truth[members])['coco/AP'] == 1
        assert Scorer(toy[0], people, ~members)(truth[~members])['coco/AP'] == 0

    def test_of_many_images_some_are_drawn(self, toy, tmp_path, monkeypatch):
        monkeypatch.setattr(scoring, 'METRIC_IMAGES', 3)
        people = self.people(toy, tmp_path)
        scorer = Scorer(toy[0], people, np.ones(len(people), bool))
        images = people.arrays['img_id']
        assert len(set(images[scorer.rows])) == 3 < len(set(images))
        assert np.isin(images, images[scorer.rows]).sum() == len(scorer.rows)
        truth = people.arrays['gt_keypoints'][:, 0]
        assert scorer(truth[scorer.rows])['coco/AP'] == 1

    def test_annotations_without_outlines(self, tmp_path):
        path = tmp_path / 'annotations.json'
        outlines = ([[1, 2, 3]], dict(counts='abc', size=[2, 2]))
        people = [dict(id=i, image_id=i % 3, segmentation=outlines[i % 2]) for i in range(6)]
        content = dict(
            info=dict(year=2017),
            images=[dict(id=i, file_name=f'{i}.jpg') for i in range(3)],
            annotations=people,
            categories=[dict(id=1, name='person')],
        )
        path.write_text(json.dumps(content))
        read = read_annotations(path)
        assert read['annotations'] == [dict(id=i, image_id=i % 3) for i in range(6)]
        assert [read[name] for name in ('info', 'images', 'categories')] == [
            content[name] for name in ('info', 'images', 'categories')
        ]
        part = read_annotations(path, {2})
        assert part['images'] == content['images'][2:]
        assert [a['id'] for a in part['annotations']] == [2, 5]
        assert part['categories'] == content['categories']

    def test_similarity_is_cocos(self, toy, tmp_path):
        """People within one step of COCO's ladder of thresholds count as
        COCO's evaluation counts them."""
        people = self.people(toy, tmp_path)
        people.arrays['scores'][:] = 1
        rng = np.random.default_rng(0)
        found = people.arrays['gt_keypoints'][:, 0]
        found = found + rng.normal(0, 3, found.shape)
        everybody = slice(0, len(people))
        similarity = keypoint_similarity(people, found, everybody).sum(-1)
        similarity /= np.maximum(people.visible.sum(-1), 1)
        values = Scorer(toy[0], people, np.ones(len(people), bool))(found)
        labelled = people.visible.any(-1)
        for name, threshold in (('coco/AR .5', 0.5), ('coco/AR .75', 0.75)):
            recall = (similarity[labelled] >= threshold).mean()
            assert values[name] == pytest.approx(recall, abs=1e-6)

    def test_head_sizes_of_mpii(self, toy, tmp_path):
        """Where no head box is annotated the head segment is the unit."""
        people = self.people(toy, tmp_path)
        mpii = DATASETS.build(dict(type='MpiiDataset', ann_file='', lazy_init=True)).metainfo
        N, K = 4, 16
        truth = np.random.default_rng(0).uniform(0, 90, (N, K, 2))
        truth[:, 8], truth[:, 9] = (40, 40), (40, 20)  # a head of 20 pixels
        visible = np.ones((N, 1, K))
        visible[3, 0, 9] = 0  # this head is not known
        people = People(
            [],
            dict(
                id=np.arange(N),
                img_id=np.arange(N),
                scores=np.ones((N, K)),
                category_id=np.ones(N, int),
                gt_bboxes=np.zeros((N, 1, 4)),
                gt_keypoints=truth[:, None].astype(np.float32),
                gt_keypoints_visible=visible,
            ),
            mpii,
            '',
        )
        found = truth - 1  # MPII counts pixels from 1
        found[0] += (11, 0)  # more than half a head
        found[1] += (9, 0)
        found[3] += 500
        cfg = Config(dict(test_evaluator=dict(type='MpiiPCKAccuracy')))
        scorer = Scorer(cfg, people, np.ones(N, bool))
        values = scorer(found[scorer.rows])
        assert values['PCK'] == pytest.approx(100 * 2 / 3)
        assert values['PCK@0.1'] == pytest.approx(100 / 3)


class TestTool:
    def test_one_line_error(self, toy, tmp_path):
        result = run_tool('calibrate_daec.py', *toy[1:], '--holdout', '1.5', '--work-dir', tmp_path)
        assert result.returncode == 1
        assert '`holdout` must be' in result.stderr.splitlines()[-1]

    @pytest.mark.parametrize(
        'arguments, message',
        [
            (dict(split='all'), '`split` must be'),
            (dict(step=0.3), '`step` must be'),
            (dict(high=99), '`high` must be'),
            (dict(low=1), '`low` must be'),
            (dict(subset=0), '`subset` must be'),
            (dict(border='mirror'), '`corner, smooth and border` must be'),
        ],
    )
    def test_arguments(self, toy, tmp_path, arguments, message):
        with pytest.raises(ValueError, match=message):
            calibrate(toy[0], toy[2], tmp_path, **arguments)

    def test_symmetric_border(self, toy, tmp_path):
        out = tmp_path / 'd.json'
        arguments = '--border', 'symmetric', '--step', 1, '--work-dir', tmp_path, '--out', out
        result = run_tool('calibrate_daec.py', *toy[1:], *arguments)
        assert result.returncode == 0, result.stderr
        assert 'br, symmetric border' in result.stdout
        assert json.loads(out.read_text())['settings']['border'] == 'symmetric'
        DAECCodec((64, 64), (16, 16), sigma=2, border='symmetric', delta=str(out))

    def test_checkpoint_of_another_model(self, toy, tmp_path):
        path = tmp_path / 'other.pth'
        torch.save(dict(weight=torch.zeros(1)), path)
        with pytest.raises(ValueError, match='is of another model: it has no'):
            calibrate(toy[0], str(path), tmp_path)

    def test_full_disk(self, toy, small_disk):
        out = small_disk / 'delta.json'
        out.write_text('earlier')
        result = run_tool('calibrate_daec.py', *toy[1:], '--work-dir', small_disk, '--out', out)
        assert result.returncode == 1
        assert 'No space left on device' in result.stderr.splitlines()[-1]
        assert '.npz' in result.stderr.splitlines()[-1]
        assert out.read_text() == 'earlier'
        files = [path for path in small_disk.rglob('*') if path.is_file()]
        annotations, *others = [path for path in files if path.suffix != '.lock' and path != out]
        assert annotations.name.startswith('annotations-') and not others
        json.loads(annotations.read_text())

    @pytest.mark.slow
    @pytest.mark.parametrize('launcher', LAUNCHERS)
    def test_two_processes_equal_one(self, repo_root, tmp_path, launcher):
        toy = make_toy(tmp_path, repo_root, train=230)
        arguments = [*toy[1:], '--step', '0.5', '--work-dir']
        one = run_tool('calibrate_daec.py', *arguments, tmp_path / 'one')
        assert one.returncode == 0, one.stderr
        assert 'chosen on' in one.stdout
        two = ('--launcher', launcher, '--gpus', '2')
        tool = repo_root / 'tools/calibrate_daec.py'
        run('python', tool, *arguments, tmp_path / 'two', *two)
        shards = [
            sorted(p.name for p in (tmp_path / name).rglob('*.npz')) for name in ('one', 'two')
        ]
        assert shards[0] == shards[1] and len(shards[0]) == 2
        texts = [(tmp_path / name / 'config.json').read_text() for name in ('one', 'two')]
        assert texts[0] == texts[1]
        assert (tmp_path / 'two/config.png').is_file()
