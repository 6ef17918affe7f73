# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Scores decoders on recorded heatmaps of any model: mean OKS with paired intervals. Each half of
the images is scored with what was fitted on the other half."""

from dataclasses import replace
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from ..codecs import HeatmapCodec
from ..functional import average_flip, heatmap_argmax
from ..utils.checks import invalid
from .calibration.outputs import BORDERS, keep_outputs
from .calibration.samples import Decoding, Samples, hold_out_half
from .calibration.steps import DecoderStep, OffsetStep, Step
from .metrics import DEFAULT_SIGMA
from .statistics import paired_gain
from .tables import markdown_table

ARRAYS = ('heatmaps', 'keypoints_cells', 'visible', 'pixels_per_cell', 'area')
OPTIONAL = ('img_id', 'mirrored_heatmaps', 'flip_indices')
REFERENCE = 'quarter'
FLIP = 'recorded'  # the key of the recorded maps, whatever their flip test
BATCH = 64  # people


def load_recording(
    path: Path,
    oks_sigmas: Sequence[float],
    sigma: float = 2,
    size: Optional[int] = None,
    flip: str = 'exact',
    use_udp: bool = False,
) -> Samples:
    """Read a recording.

    Args:
        path (str | Path): An ``.npz`` file of ``heatmaps`` (N, K, H, W), ``keypoints_cells``
            (N, K, 2) in heatmap cells, ``visible`` (N, K), ``pixels_per_cell`` of the original
            picture (N,), ``area`` of each person there (N,), and ``img_id`` (N,) where people
            share images. Where it also has ``mirrored_heatmaps`` (N, K, H, W), the network's for
            the mirror images, and ``flip_indices`` (K,), the flip test is made here.
        oks_sigmas (sequence): COCO's sigmas, one for each keypoint; if empty, an eye's for all.
        sigma (float): Standard deviation of the label in cells.
        size (int, optional): Cut a square of so many cells out of every map, at a random place
            around its maximum, to see what the border of a small map does to the same responses.
        flip (str): The flip test of ``mirrored_heatmaps``: 'exact', 'stock' or 'none', see
            :func:`~mmpose_simcc.functional.average_flip`. Its mirror images are those of
            :func:`~mmpose_simcc.functional.mirror_images`.
        use_udp (bool): Whether the pipeline's ``TopdownAffine`` has ``use_udp``.

    Returns:
        Samples: The people with a visible keypoint. Cells take the place of input pixels.

    Raises:
        ValueError: The file is not of this form, or ``size`` is larger than a map.
    """
    with np.load(path) as stored:
        missing = [name for name in ARRAYS if name not in stored]
        if missing:
            raise ValueError(
                f'{path} has no {", ".join(missing)}; it must have {", ".join(ARRAYS)}'
            )
        arrays = {name: stored[name] for name in (*ARRAYS, *OPTIONAL) if name in stored}
    N, K, H, W = arrays['heatmaps'].shape
    shapes = ((N, K, H, W), (N, K, 2), (N, K), (N,), (N,))
    for name, shape in zip(ARRAYS, shapes):
        if arrays[name].shape != shape:
            raise ValueError(f'{name} in {path} is of shape {arrays[name].shape}, not {shape}')
    if len(oks_sigmas) not in (0, K):
        raise ValueError(f'{path} has {K} keypoints, but there are {len(oks_sigmas)} OKS constants')
    arrays.setdefault('img_id', np.arange(N))
    if 'mirrored_heatmaps' in arrays:
        arrays['heatmaps'] = _average(path, arrays, flip, use_udp)
    seen = arrays['visible'].any(-1)
    arrays = {name: arrays[name][seen] for name in (*ARRAYS, 'img_id')}
    heatmaps = torch.from_numpy(arrays['heatmaps'].astype(np.float32))
    cells = arrays['keypoints_cells']
    if size is not None:
        if not 0 < size <= min(W, H):
            raise invalid('size', size, f'from 1 to {min(W, H)} cells')
        heatmaps, first_cells = _cut_out(heatmaps, size)
        cells, W, H = cells - first_cells, size, size
    outputs = keep_outputs(HeatmapCodec((W, H), (W, H), sigma))
    for batch in heatmaps.split(BATCH):
        outputs.append(batch)
    pixels = arrays['pixels_per_cell'][:, None]
    return Samples(
        outputs={FLIP: outputs},
        truth=cells * pixels[..., None],
        visible=arrays['visible'].astype(bool),
        img_ids=arrays['img_id'],
        scale=np.repeat(pixels, 2, 1),
        corner=np.zeros((len(cells), 2)),
        areas=arrays['area'].astype(np.float64),
        sigmas=oks_sigmas if len(oks_sigmas) else np.full(K, DEFAULT_SIGMA),
        held_out=hold_out_half(arrays['img_id']),
    )


def _average(path: Path, arrays: Dict[str, np.ndarray], flip: str, use_udp: bool) -> np.ndarray:
    """The flip test of recorded heatmaps and those of the mirror images."""
    maps, mirrored = arrays['heatmaps'], arrays['mirrored_heatmaps']
    flip_indices = arrays.get('flip_indices')
    K = maps.shape[1]
    if mirrored.shape != maps.shape:
        raise ValueError(
            f'mirrored_heatmaps in {path} is of shape {mirrored.shape}, not {maps.shape}'
        )
    if flip_indices is None or sorted(flip_indices.tolist()) != list(range(K)):
        raise ValueError(f'flip_indices in {path} must name each of the {K} keypoints once')
    maps, mirrored = (torch.from_numpy(array.astype(np.float32)) for array in (maps, mirrored))
    return average_flip(maps, mirrored, flip_indices.tolist(), flip, use_udp).numpy()


def _cut_out(heatmaps: Tensor, size: int) -> Tuple[Tensor, np.ndarray]:
    """Squares around the maxima, (N, K, size, size), and their first cells, (N, K, 2)."""
    *shape, H, W = heatmaps.shape
    locs = heatmap_argmax(heatmaps)[0].numpy()
    first = np.random.default_rng(0).integers(
        (locs - size + 1).clip(0), np.minimum(locs, (W - size, H - size)) + 1
    )
    left, top = torch.from_numpy(first).flatten(0, 1).T
    squares = heatmaps.flatten(0, 1).unfold(1, size, 1).unfold(2, size, 1)
    return squares[torch.arange(len(left)), top, left].unflatten(0, shape), first


def _by_the_other_half(
    step: Step, name: str, decoding: Decoding, samples: Samples
) -> Tuple[np.ndarray, np.ndarray]:
    """The keypoints of a candidate in image pixels, (N, K, 2), and its errors in cells. Each half
    of the images is decoded with what was fitted on the other half."""
    halves = []
    for held_out in (samples.held_out, ~samples.held_out):
        half = replace(samples, held_out=held_out, _pair_sums={})
        halves.append(step.fit(name, decoding, half))
    first = samples.held_out[:, None, None]
    keypoints, errors = (
        np.where(first, *(getattr(half, what)(samples) for half in halves))
        for what in ('keypoints', 'errors')
    )
    return keypoints, errors


def score_decoders(samples: Samples) -> str:
    """Every decoder's mean OKS, its difference to the quarter shift with a 95% interval (paired
    over images), and the median of prediction minus truth along x and y in cells.

    Args:
        samples (Samples): See :func:`load_recording`.

    Returns:
        str: A Markdown table.
    """
    outputs = samples.outputs[FLIP]
    start = Decoding(REFERENCE, outputs.own, FLIP)
    step = DecoderStep()
    found = {}
    for name in (REFERENCE, *step.candidates(start, samples)[1:]):
        found[name] = _by_the_other_half(step, name, start, samples)
    for border in BORDERS:
        for delta in range(-1, int(outputs.codec.sigma) + 4):
            decoding = replace(start, decoder=outputs.daec(float(delta), border))
            found[f'daec, {border}, D = {delta}'] = (
                decoding.keypoints(samples),
                decoding.errors(samples),
            )
    dark = step.fit('dark', start, samples)
    found['dark, less offset'] = _by_the_other_half(OffsetStep(), 'x, y', dark, samples)
    number = samples.visible.sum(1)

    def oks(keypoints: np.ndarray) -> np.ndarray:
        similarity = samples.similarity(keypoints) * samples.visible
        return (similarity.sum(1) / number)[:, None]

    reference, rows = oks(found[REFERENCE][0]), []
    for name, (keypoints, errors) in found.items():
        of_people = oks(keypoints)
        gain = paired_gain(-reference, -of_people, samples.img_ids)
        offset = np.nanmedian(errors, (0, 1))
        rows.append([name, f'{of_people.mean():.4f}', str(gain), *(f'{o:+.2f}' for o in offset)])
    header = ['decoder', 'mean OKS', f'over {REFERENCE} [95%]', 'offset x', 'offset y']
    return markdown_table(rows, header)
