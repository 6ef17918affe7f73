# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decoders on recorded heatmaps, against OKS computed by hand."""

import re

import numpy as np
import pytest
from conftest import run_tool
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from mmpose_simcc import DAECCodec, DARKCodec, HeatmapCodec
from mmpose_simcc.workbench.recorded import load_recording, score_decoders

OKS_SIGMAS = parse_pose_metainfo(dict(from_file='configs/_base_/datasets/coco.py'))['sigmas']
N, K, H, W = 40, 17, 32, 24
SIZE = dict(input_size=(W, H), heatmap_size=(W, H), sigma=2)


def write_recording(path, shift=(0, 0), **changes):
    """Gaussians, all off the truth by ``shift`` cells."""
    rng = np.random.default_rng(0)
    truth = rng.uniform((2, 2), (W - 3, H - 3), (N, K, 2)).astype(np.float32)
    x, y = np.arange(W), np.arange(H)[:, None]
    centers = (truth + shift)[..., None, None]
    heatmaps = np.exp(-((x - centers[:, :, 0]) ** 2 + (y - centers[:, :, 1]) ** 2) / 8)
    visible = rng.random((N, K)) < 0.7
    visible[3] = False  # is left out
    arrays = dict(
        heatmaps=heatmaps.astype(np.float32),
        keypoints_cells=truth,
        visible=visible,
        pixels_per_cell=rng.uniform(2, 8, N).astype(np.float32),
        area=rng.uniform(3000, 9000, N),
    )
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def mean_oks(arrays, cells):
    """COCO's formula, person by person."""
    values = []
    for n in range(N):
        seen = arrays['visible'][n]
        if seen.any():
            pixels = (cells[n] - arrays['keypoints_cells'][n]) * arrays['pixels_per_cell'][n]
            scale = 2 * arrays['area'][n] * (2 * np.array(OKS_SIGMAS)) ** 2
            values.append(np.exp(-(pixels**2).sum(-1) / scale)[seen].mean())
    return np.mean(values)


def table_rows(text):
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()]
    return {name: cells for name, *cells in rows[2:]}


class TestFlipTest:
    SWAP = [0, *(k + 1 if k % 2 else k - 1 for k in range(1, K))]

    def recording(self, tmp_path, move=0):
        """Heatmaps of the mirror images have cell i at W - i, or ``move`` beside it."""
        path = tmp_path / 'r.npz'
        arrays = write_recording(path)
        mirrored = np.roll(arrays['heatmaps'][:, self.SWAP, :, ::-1], 1 + move, -1)
        arrays.update(mirrored_heatmaps=mirrored, flip_indices=np.array(self.SWAP))
        np.savez(path, **arrays)
        return path

    @pytest.mark.parametrize(
        'flip, move, offset',
        [('exact', 0, 0), ('exact', 1, -0.5), ('stock', 0, 0), ('none', 1, 0)],
    )
    def test_is_made_of_mirrored_maps(self, tmp_path, flip, move, offset):
        path = self.recording(tmp_path, move)
        rows = table_rows(score_decoders(load_recording(path, OKS_SIGMAS, flip=flip)))
        assert float(rows['dark'][-2]) == pytest.approx(offset, abs=0.02)
        assert float(rows['dark'][-1]) == pytest.approx(0, abs=0.02)

    @pytest.mark.parametrize('use_udp', [False, True])
    def test_udp(self, tmp_path, use_udp):
        path = self.recording(tmp_path, -1)  # cell i at W - 1 - i
        samples = load_recording(path, OKS_SIGMAS, use_udp=use_udp)
        rows = table_rows(score_decoders(samples))
        assert float(rows['dark'][-2]) == pytest.approx(0 if use_udp else 0.5, abs=0.02)

    @pytest.mark.parametrize(
        'changes, message',
        [
            (dict(mirrored_heatmaps=np.zeros((1, K, H, W))), 'mirrored_heatmaps in .* is of shape'),
            (dict(flip_indices=np.zeros(K, int)), 'flip_indices in .* each of the 17 keypoints'),
        ],
    )
    def test_wrong_files(self, tmp_path, changes, message):
        arrays = dict(np.load(self.recording(tmp_path)))
        np.savez(tmp_path / 'r.npz', **{**arrays, **changes})
        with pytest.raises(ValueError, match=message):
            load_recording(tmp_path / 'r.npz', OKS_SIGMAS)


class TestScoreDecoders:
    def test_every_codec(self, tmp_path):
        arrays = write_recording(tmp_path / 'r.npz')
        rows = table_rows(score_decoders(load_recording(tmp_path / 'r.npz', OKS_SIGMAS)))
        for name, codec in {
            'argmax': HeatmapCodec(**SIZE, refine='none'),
            'quarter': HeatmapCodec(**SIZE),
            'dark': DARKCodec(**SIZE),
            'dark, kernel 1': DARKCodec(**SIZE, blur_kernel_size=1),
            'daec, clip, D = 4': DAECCodec(**SIZE),
            'daec, symmetric, D = 2': DAECCodec(**SIZE, delta=2, border='symmetric'),
        }.items():
            cells = np.stack([codec.decode(maps)[0][0] for maps in arrays['heatmaps']])
            assert float(rows[name][0]) == pytest.approx(mean_oks(arrays, cells), abs=6e-5), name
            error = (cells - arrays['keypoints_cells'])[arrays['visible']]
            offset = [float(cell) for cell in rows[name][2:]]
            np.testing.assert_allclose(offset, np.median(error, axis=0), atol=0.011)
        assert rows['quarter'][1] == '+0.0000 [+0.0000, +0.0000]'

    def test_what_is_learned_takes_a_shift_off(self, tmp_path):
        """A model whose answers lie 0.4 cells to the right and 0.2 down, which the cut of the
        window's corner compensates, and which is no more than a shift."""
        write_recording(tmp_path / 'r.npz', shift=(0.4, 0.2))
        rows = table_rows(score_decoders(load_recording(tmp_path / 'r.npz', OKS_SIGMAS)))
        oks = {name: float(cells[0]) for name, cells in rows.items()}
        assert rows['dark, kernel 1'][2:] == ['+0.40', '+0.20']
        assert [abs(float(cell)) <= 0.02 for cell in rows['dark, less offset'][2:]] == [True] * 2
        names = [f'daec, symmetric, {name}' for name in ('fractional', 'x, y')]
        assert oks['daec, symmetric, D = 0'] + 0.005 < oks[names[0]] < oks[names[1]]
        assert oks[names[1]] < oks['dark, less offset'] > 0.99

    def test_learned_from_the_other_half(self, tmp_path):
        """Each half is off in another direction: what is learned on one does harm on the other."""
        recording = load_recording(self.path_of_two_halves(tmp_path), OKS_SIGMAS)
        rows = table_rows(score_decoders(recording))
        oks = {name: float(cells[0]) for name, cells in rows.items()}
        assert oks['dark, less offset'] < oks['dark'] - 0.01
        assert oks['daec, symmetric, x, y'] < oks['daec, symmetric, D = 0']

    def path_of_two_halves(self, tmp_path):
        path = tmp_path / 'r.npz'
        write_recording(path, visible=np.ones((N, K), bool))
        right = load_recording(path, OKS_SIGMAS).held_out
        shift = np.where(right[:, None, None], 0.4, -0.4)
        write_recording(path, shift=shift, visible=np.ones((N, K), bool))
        return path

    def test_cut_to_a_small_map(self, tmp_path):
        """The border moves the clipped window, and nothing of a symmetric one."""
        write_recording(tmp_path / 'r.npz')
        whole = load_recording(tmp_path / 'r.npz', OKS_SIGMAS)
        small = load_recording(tmp_path / 'r.npz', OKS_SIGMAS, size=12)
        outputs = [samples.outputs['recorded'] for samples in (small, whole)]
        assert outputs[0].codec.heatmap_size == (12, 12)
        np.testing.assert_allclose(outputs[0].scores, outputs[1].scores)
        rows = table_rows(score_decoders(small))
        oks = {name: float(cells[0]) for name, cells in rows.items()}
        assert oks['daec, clip, D = 0'] < oks['daec, symmetric, D = 0'] - 0.02
        # the maxima are the same cells
        assert rows['argmax'][0] == table_rows(score_decoders(whole))['argmax'][0]


class TestFile:
    @pytest.mark.parametrize(
        'changes, message',
        [
            (dict(area=None, visible=None), 'has no visible, area; it must have heatmaps'),
            (dict(area=np.ones(3)), r'area in .*r.npz is of shape \(3,\), not \(40,\)'),
            (
                dict(heatmaps=np.zeros((N, 5, H, W), np.float32)),
                r'keypoints_cells in .* is of shape \(40, 17, 2\), not \(40, 5, 2\)',
            ),
        ],
    )
    def test_malformed(self, tmp_path, changes, message):
        write_recording(tmp_path / 'r.npz', **changes)
        with pytest.raises(ValueError, match=message):
            load_recording(tmp_path / 'r.npz', OKS_SIGMAS)

    def test_other_keypoints(self, tmp_path):
        write_recording(tmp_path / 'r.npz')
        with pytest.raises(ValueError, match='17 keypoints, but there are 14'):
            load_recording(tmp_path / 'r.npz', OKS_SIGMAS[:14])

    def test_too_large_a_square(self, tmp_path):
        write_recording(tmp_path / 'r.npz')
        with pytest.raises(ValueError, match='`size` must be from 1 to 24 cells, but got 25'):
            load_recording(tmp_path / 'r.npz', OKS_SIGMAS, size=25)


def test_command_line(tmp_path):
    write_recording(tmp_path / 'r.npz')
    done = run_tool('score_heatmaps.py', tmp_path / 'r.npz', '--size', 16)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r'^\| ', done.stdout, re.M)) == len(table_rows(done.stdout)) + 1
    done = run_tool('score_heatmaps.py', tmp_path / 'none.npz')
    assert done.returncode == 1 and done.stderr.startswith('score_heatmaps: ')
