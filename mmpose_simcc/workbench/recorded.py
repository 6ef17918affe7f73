# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Decoders on recorded heatmaps of any model: mean OKS with paired intervals, and DAEC's factor
learned on one half of the images and scored on the other."""

from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmpose.registry import KEYPOINT_CODECS
from tabulate import tabulate
from torch import Tensor

from ..codecs import HeatmapCodec
from ..functional import heatmap_argmax
from ..functional.arrays import crop
from ..utils.checks import invalid
from .calibration.capture import People
from .calibration.records import HeatmapRecords, Setting
from .calibration.scoring import keypoint_similarity
from .calibration.search import best_candidates, bootstrap_gain, candidate_deltas, hold_out
from .compare.decoders import HEATMAP_DECODERS

ARRAYS = ('heatmaps', 'keypoints_cells', 'visible', 'pixels_per_cell', 'area')
REFERENCE = 'quarter'
BATCH = 64  # people whose pairs of factors are tried at once


class Recording(NamedTuple):
    """Heatmaps of people and the truth.

    Attributes:
        heatmaps (Tensor): Shape (N, K, H, W).
        truth (np.ndarray): Annotated keypoints in cells, shape (N, K, 2).
        people (People): The truth as the calibration has it. Input pixels are cells.
    """

    heatmaps: Tensor
    truth: np.ndarray
    people: People

    def oks(self, cells: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """OKS of each person (P, ...), of predictions in cells (P, ..., K, 2)."""
        people = self.people
        similarity = keypoint_similarity(people, people.to_image(cells, rows), rows).sum(-1)
        return similarity / people.visible[rows].sum(-1).reshape(-1, *[1] * (similarity.ndim - 1))

    @property
    def first_half(self) -> np.ndarray:
        """Which people are in one half of the images, bool, shape (N,)."""
        return hold_out(self.people.arrays['img_id'], 0.5)

    def less_offset(self, cells: np.ndarray) -> np.ndarray:
        """Predictions (N, K, 2) less the median error of those on the other half."""
        error = cells - self.truth
        offsets = [
            np.median(error[self.people.visible & half[:, None]], axis=0)
            for half in (self.first_half, ~self.first_half)
        ]
        return cells - np.where(self.first_half[:, None, None], offsets[1], offsets[0])


def load_recording(path: Path, oks_sigmas: Sequence[float], size: Optional[int] = None):
    """Read a recording.

    Args:
        path (str | Path): An ``.npz`` file of ``heatmaps`` (N, K, H, W), ``keypoints_cells``
            (N, K, 2) in heatmap cells, ``visible`` (N, K), ``pixels_per_cell`` of the original
            picture (N,), ``area`` of each person there (N,), and ``img_id`` (N,) where people
            share images.
        oks_sigmas (sequence): COCO's constants, one a keypoint. Without any, all are as an eye's.
        size (int, optional): Cut a square of so many cells out of every map, at a random place
            around its maximum: what the border of a small map does to the same responses.

    Returns:
        Recording: Of the people with a visible keypoint.

    Raises:
        ValueError: The file is not of this form, or ``size`` is larger than a map.
    """
    with np.load(path) as stored:
        missing = [name for name in ARRAYS if name not in stored]
        if missing:
            raise ValueError(
                f'{path} has no {", ".join(missing)}; it must have {", ".join(ARRAYS)}'
            )
        arrays = {name: stored[name] for name in (*ARRAYS, 'img_id') if name in stored}
    N, K, H, W = arrays['heatmaps'].shape
    shapes = ((N, K, H, W), (N, K, 2), (N, K), (N,), (N,))
    for name, shape in zip(ARRAYS, shapes):
        if arrays[name].shape != shape:
            raise ValueError(f'{name} in {path} is of shape {arrays[name].shape}, not {shape}')
    if len(oks_sigmas) not in (0, K):
        raise ValueError(f'{path} has {K} keypoints, but there are {len(oks_sigmas)} OKS constants')
    arrays.setdefault('img_id', np.arange(N))
    seen = arrays['visible'].any(-1)
    arrays = {name: array[seen] for name, array in arrays.items()}
    heatmaps = torch.from_numpy(arrays['heatmaps'].astype(np.float32))
    truth = arrays['keypoints_cells']
    if size is not None:
        if not 0 < size <= min(W, H):
            raise invalid('size', size, f'from 1 to {min(W, H)} cells')
        heatmaps, first_cells = _cut_out(heatmaps, size)
        truth, W, H = truth - first_cells, size, size
    pixels = arrays['pixels_per_cell'][:, None]
    cells = np.tile(np.float32((W, H)), (len(truth), 1))
    people = dict(
        id=np.arange(len(truth)),
        img_id=arrays['img_id'],
        area=arrays['area'].astype(np.float64),
        scores=np.zeros(truth.shape[:2]),  # of the shape that says how many keypoints there are
        gt_keypoints_visible=arrays['visible'],
        gt_keypoints=truth * pixels[..., None],
        input_size=cells,
        input_scale=cells * pixels,
        input_center=cells * pixels / 2,
    )
    return Recording(heatmaps, truth, People([], people, dict(sigmas=oks_sigmas), str(path)))


def _cut_out(heatmaps: Tensor, size: int) -> Tuple[Tensor, np.ndarray]:
    """Squares around the maxima, (N, K, size, size), and their first cells, (N, K, 2)."""
    *shape, H, W = heatmaps.shape
    locs = heatmap_argmax(heatmaps)[0].numpy()
    first = np.random.default_rng(0).integers(
        (locs - size + 1).clip(0), np.minimum(locs, (W - size, H - size)) + 1
    )
    left, top = torch.from_numpy(first).flatten(0, 1).T
    return crop(heatmaps.flatten(0, 1), left, top, (size, size)).unflatten(0, shape), first


def fixed_decoders(sigma: float) -> Dict[str, dict]:
    """The comparison's decoders, with every whole factor and with other kernels."""
    decoders = {
        name: HEATMAP_DECODERS[name] for name in ('argmax', 'second_max', 'quarter', 'dark')
    }
    for kernel in (5, 1):
        decoders[f'dark, kernel {kernel}'] = dict(type='DARKCodec', blur_kernel_size=kernel)
    for border in ('clip', 'symmetric'):
        for delta in range(-1, int(sigma) + 4):
            name = f'daec, {border}, D = {delta}'
            decoders[name] = dict(type='DAECCodec', delta=delta, border=border)
    return decoders


def learned_factors(
    recording: Recording, codec: HeatmapCodec, border: str
) -> Iterator[Tuple[str, np.ndarray]]:
    """DAEC by two-fold cross-validation: factors with the best mean OKS on one half of the
    images decode the other half.

    Yields:
        tuple[str, np.ndarray]: How fine the factor is, and keypoints in cells, (N, K, 2).
    """
    records, setting = HeatmapRecords(codec), Setting(border=border)
    deltas = candidate_deltas(records.low, records.high, records.default_step)
    empirical = records.empirical(setting)
    N, K, D = *recording.truth.shape[:2], len(deltas)
    first_half = recording.first_half
    sums = np.zeros((2, D, D, K))  # of the keypoints' shares of OKS, in each half
    arrays = []
    for start in range(0, N, BATCH):
        rows = slice(start, start + BATCH)
        arrays.append(records.record(recording.heatmaps[rows]))
        cells = records.decode_pairs(arrays[-1], setting, deltas)
        people = recording.people
        shares = keypoint_similarity(people, people.to_image(cells, rows), rows)
        shares /= people.visible[rows].sum(-1)[:, None, None, None]
        for half in (0, 1):
            sums[half] += shares[first_half[rows] == half].sum(0)
    arrays = {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}
    for name in ('one', 'x, y', 'keypoint', 'keypoint x, y'):
        values = sums if name.startswith('keypoint') else sums.sum(-1, keepdims=True)
        if name in ('one', 'keypoint'):
            values = np.moveaxis(values.diagonal(axis1=1, axis2=2), 2, 1)
        pairs = [
            [best_candidates(part[..., k], deltas, empirical, 1)[0] for k in range(part.shape[-1])]
            for part in values
        ]
        pairs = np.stack([np.broadcast_to(part, (K, 2)) for part in pairs])
        by_half = records.decode(arrays, setting, pairs)  # (N, 2, K, 2)
        # those of the other half
        yield name, np.where(first_half[:, None, None], by_half[:, 0], by_half[:, 1])


def score_decoders(recording: Recording, sigma: float) -> str:
    """Every decoder's mean OKS, its difference to the quarter shift with a 95% interval (paired
    bootstrap over images), and the median of prediction minus truth along x and y in cells.

    Args:
        recording (Recording): See :func:`load_recording`.
        sigma (float): Standard deviation of the label in cells.

    Returns:
        str: A Markdown table.
    """
    size = tuple(recording.heatmaps.shape[:1:-1])
    geometry = dict(input_size=size, heatmap_size=size, sigma=sigma)  # decodes to cells
    found = {}
    for name, decoder in fixed_decoders(sigma).items():
        codec = KEYPOINT_CODECS.build({**decoder, **geometry})
        found[name] = np.concatenate(codec.batch_decode(recording.heatmaps)[0])
    found['dark, less offset'] = recording.less_offset(found['dark'])
    for border in ('clip', 'symmetric'):
        for name, cells in learned_factors(recording, HeatmapCodec(**geometry), border):
            found[f'daec, {border}, D learned: {name}'] = cells
    images, visible = recording.people.arrays['img_id'], recording.people.visible
    reference = recording.oks(found[REFERENCE])
    rows = []
    for name, cells in found.items():
        oks = recording.oks(cells)
        gain = bootstrap_gain(oks, reference, np.ones(len(oks)), images)
        offset = np.median((cells - recording.truth)[visible], axis=0)
        rows.append([name, f'{oks.mean():.4f}', str(gain), *(f'{o:+.2f}' for o in offset)])
    header = ['decoder', 'mean OKS', f'over {REFERENCE} [95%]', 'offset x', 'offset y']
    return tabulate(rows, header, tablefmt='pipe', disable_numparse=True)
