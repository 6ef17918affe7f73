# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Keeps what is needed of a network's outputs to decode them in many ways.

Decoders without a parameter to fit decode each batch right away, and their keypoints are kept. DAEC
has such a parameter, but reads only a window around the maximum of a heatmap or vector, which is
kept for it.
"""

import inspect
import json
from typing import Dict, Iterator, Optional, Tuple

import numpy as np
import torch
from mmpose.codecs.base import BaseKeypointCodec
from torch import Tensor
from torch.nn import functional as F

from ...codecs import SimCCCodec
from ...codecs.calibration import OUTPUT_ARGUMENTS, another_decoder
from ...functional import (
    daec_radius,
    decode_daec,
    decode_daec_1d,
    empirical_delta,
    heatmap_argmax,
    vector_argmax,
)
from ..scoring import OnDisk

KERNELS = (1, 3, 5, 7, 9, 11, 13, 15, 17)  # of DARK
BORDERS = ('clip', 'symmetric')
LOWEST_DELTA = -2  # cells, as in the paper


def own_decoder(codec: BaseKeypointCodec) -> dict:
    """The type of a codec and its arguments of decoding, as :func:`another_decoder` takes them."""
    names = [
        name
        for name, parameter in inspect.signature(type(codec)).parameters.items()
        if name not in (*OUTPUT_ARGUMENTS, 'calibration')
        and parameter.kind is not parameter.VAR_KEYWORD
    ]
    values = {name: getattr(codec, name) for name in names}
    return dict(
        type=type(codec).__name__,
        **{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()},
    )


class Outputs:
    """What is kept of the network outputs of N people under one flip test. Subclasses say what
    DAEC's windows are and how they are decoded.

    Args:
        codec (TensorCodec): The model's.

    Attributes:
        own (dict): Config of the model's own decoder.
        fixed (dict): Configs of the decoders without a parameter to fit, by their names, from the
            simplest to the finest.
        has_factors_of_keypoints (bool): Whether DAEC can have a factor for each keypoint.
        deltas (np.ndarray): DAEC's factors to choose from, in cells or bins, shape (D,).
        empirical (float): The factor by the paper's rule.
        scores (np.ndarray): Scores of the keypoints, the same for all decoders, shape (N, K).
    """

    has_factors_of_keypoints: bool
    fixed: Dict[str, dict]
    deltas: np.ndarray
    empirical: float

    def __init__(self, codec: BaseKeypointCodec) -> None:
        self.codec = codec
        self.own = own_decoder(codec)
        self._batches = OnDisk()
        self._arrays: Optional[Dict[str, np.ndarray]] = None

    @property
    def _kept(self) -> Dict[str, np.ndarray]:
        """Arrays of all people: scores, windows, and keypoints under each decoder's config."""
        if self._arrays is None:
            self._arrays = self._batches.arrays()
        return self._arrays

    @property
    def scores(self) -> np.ndarray:
        return self._kept['scores']

    def daec(self, delta, border: str) -> dict:
        """Config of a DAEC decoder."""
        raise NotImplementedError

    def _keep(self, *outputs: Tensor) -> dict:
        """The windows of a batch: the maxima as ``locs``, and the responses around them."""
        raise NotImplementedError

    def _decode(self, windows: dict, decoder: dict) -> np.ndarray:
        """Keypoints (P, K, 2) in input pixels by DAEC."""
        raise NotImplementedError

    def _decode_pairs(self, windows: dict, border: str) -> np.ndarray:
        """Keypoints (P, D, D, K, 2) in input pixels for every pair of factors along x and y."""
        raise NotImplementedError

    def append(self, *outputs: Tensor) -> None:
        """Keep a batch of network outputs, each of shape (B, K, ...)."""
        decoders = {_name(decoder): decoder for decoder in (self.own, *self.fixed.values())}
        batch = self._keep(*outputs)
        for name, decoder in decoders.items():
            keypoints, scores = another_decoder(self.codec, decoder).batch_decode(*outputs)
            batch[name] = np.concatenate(keypoints)
        batch['scores'] = np.concatenate(scores).astype(np.float64)
        self._batches.append(batch)
        self._arrays = None

    def predict(self, decoder: dict) -> np.ndarray:
        """Keypoints by a decoder.

        Args:
            decoder (dict): One of :attr:`fixed`, or by :meth:`daec`.

        Returns:
            np.ndarray: Input-image pixels, shape (N, K, 2).
        """
        if _name(decoder) in self._kept:
            return self._kept[_name(decoder)]
        return np.concatenate([self._decode(few, decoder) for _, few in self._windows(64)])

    def predict_pairs(self, border: str, together: int = 8) -> Iterator[Tuple[slice, np.ndarray]]:
        """Keypoints for every pair of DAEC's factors, a few people at a time.

        Yields:
            tuple[slice, np.ndarray]: Which people, and their keypoints in input-image pixels,
            shape (P, D, D, K, 2), with the factors along x first.
        """
        for rows, few in self._windows(together):
            yield rows, self._decode_pairs(few, border)

    def _windows(self, together: int) -> Iterator[Tuple[slice, Dict[str, np.ndarray]]]:
        """The arrays, a few people at a time."""
        number = len(self._kept['locs'])
        for start in range(0, number, together):
            rows = slice(start, min(start + together, number))
            yield rows, {name: array[rows] for name, array in self._kept.items()}


def _name(decoder: dict) -> str:
    return json.dumps(decoder, sort_keys=True)


def _in_window(locs: np.ndarray, size: int, half_width: int, border: str) -> np.ndarray:
    """Which cells of the windows around ``locs`` count along an axis, shape (..., S): those on the
    map; with a symmetric border only if the cell across the maximum is on the map as well."""
    steps = np.arange(-half_width, half_width + 1)
    cells = locs[..., None] + steps
    on_map = (cells >= 0) & (cells < size)
    return on_map & on_map[..., ::-1] if border == 'symmetric' else on_map


def _cover(deltas: np.ndarray, sigma: float, half_width: int) -> np.ndarray:
    """How much each cell of a window counts for each factor (DAEC, Eq. 10), shape (D, S): 1, a
    fraction next to the cut, and 0 beyond it."""
    steps = np.arange(-half_width, half_width + 1)
    radius = daec_radius(sigma)
    return (radius + 1 - deltas[:, None] - steps).clip(0, 1) * (steps >= -radius)


def _factors(low: float, high: float, step: float) -> np.ndarray:
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step


class HeatmapOutputs(Outputs):
    """Heatmaps. See :class:`Outputs`."""

    has_factors_of_keypoints = True

    def __init__(self, codec: BaseKeypointCodec) -> None:
        super().__init__(codec)
        sigma = codec.sigma
        self.fixed = dict(
            argmax=dict(type='HeatmapCodec', refine='none'),
            quarter=dict(type='HeatmapCodec', refine='quarter'),
            second_max=dict(type='HeatmapCodec', refine='second_max'),
            dark=dict(type='DARKCodec', blur_kernel_size=codec.blur_kernel_size),
        )
        self.fixed['dark, symmetric'] = dict(self.fixed['dark'], border='symmetric')
        for kernel in KERNELS:
            if kernel != codec.blur_kernel_size:
                decoder = dict(type='DARKCodec', blur_kernel_size=kernel)
                self.fixed[f'dark, kernel {kernel}'] = decoder
        self.empirical = float(empirical_delta(sigma, smooth=False))
        self.deltas = _factors(LOWEST_DELTA, daec_radius(sigma), 0.25)
        self._half_width = daec_radius(sigma) - LOWEST_DELTA

    def daec(self, delta, border: str) -> dict:
        return dict(type='DAECCodec', delta=delta, border=border)

    def _keep(self, heatmaps: Tensor) -> dict:
        maps = heatmaps.float()
        locs, peaks = heatmap_argmax(maps)
        usable = (peaks.isfinite() & (peaks > 0))[..., None, None]
        relative = torch.where(usable, maps / peaks[..., None, None], torch.zeros_like(maps))
        e = self._half_width
        padded = F.pad(relative.clamp(0, 1), (e,) * 4).flatten(0, 1)
        steps = torch.arange(2 * e + 1, device=maps.device)
        x, y = (locs.flatten(0, 1)[:, axis, None] + steps for axis in (0, 1))
        index = torch.arange(len(padded), device=maps.device)[:, None, None]
        windows = padded[index, y[:, :, None], x[:, None, :]]
        windows[:, e, e] = 1  # so that a map without a peak is decoded to its maximum
        return dict(
            locs=locs.cpu().numpy(),
            maps=windows.unflatten(0, locs.shape[:2]).half().cpu().numpy(),
        )

    def _masked(self, windows: dict, border: str) -> np.ndarray:
        columns, rows = (
            _in_window(windows['locs'][..., axis], size, self._half_width, border)
            for axis, size in enumerate(self.codec.heatmap_size)
        )
        counts = rows[..., :, None] & columns[..., None, :]
        return windows['maps'].astype(np.float32) * counts

    def _decode(self, windows: dict, decoder: dict) -> np.ndarray:
        maps = self._masked(windows, decoder['border'])
        center = np.full(windows['locs'].shape, self._half_width)
        codec = another_decoder(self.codec, decoder)
        cells = decode_daec(maps, center, codec.sigma, codec.delta) - self._half_width
        return (windows['locs'] + cells) * self.codec.decoded_scale_factor

    def _decode_pairs(self, windows: dict, border: str) -> np.ndarray:
        cover = _cover(self.deltas, self.codec.sigma, self._half_width).astype(np.float32)
        steps = np.arange(-self._half_width, self._half_width + 1, dtype=np.float32)
        both = torch.from_numpy(np.concatenate([cover, cover * steps]))  # (2 D, S)
        D = len(cover)
        # (P, K, 2 D along y, 2 D along x)
        sums = both @ torch.from_numpy(self._masked(windows, border)) @ both.T
        mean = torch.stack([sums[..., :D, D:], sums[..., D:, :D]], -1) / sums[..., :D, :D, None]
        cells = mean.nan_to_num(0, 0, 0).permute(0, 3, 2, 1, 4).numpy()  # (P, Dx, Dy, K, 2)
        locs = windows['locs'][:, None, None]
        return (locs + cells) * self.codec.decoded_scale_factor


class SimCCOutputs(Outputs):
    """SimCC vectors. See :class:`Outputs`."""

    has_factors_of_keypoints = False
    empirical = 0.0  # no cut, since the papers have no rule for vectors

    def __init__(self, codec: SimCCCodec) -> None:
        super().__init__(codec)
        self.fixed = {
            name: dict(self.own, refine=refine, delta=0.0, border=border)
            for name, refine, border in (
                ('argmax', 'none', 'clip'),
                ('dark', 'dark', 'clip'),
                ('dark, symmetric', 'dark', 'symmetric'),
            )
        }
        low = -max(codec.sigma)
        self.deltas = _factors(low, min(map(daec_radius, codec.sigma)), 0.5)
        self._half_widths = [daec_radius(sigma) + int(np.ceil(-low)) for sigma in codec.sigma]

    def daec(self, delta, border: str) -> dict:
        return dict(self.own, refine='daec', delta=delta, border=border)

    def _keep(self, *logits: Tensor) -> dict:
        kept, all_locs = {}, []
        for axis, vectors, e in zip('xy', logits, self._half_widths):
            vectors = vectors.float() * self.codec.beta
            locs, top = vector_argmax(vectors)
            relative = (vectors - top[..., None]).exp().nan_to_num(0, 0, 0)
            index = locs[..., None] + torch.arange(2 * e + 1, device=locs.device)
            windows = F.pad(relative, (e, e)).gather(-1, index)
            windows[..., e] = 1  # so that a vector without a peak is decoded to its maximum
            kept[axis] = windows.half().cpu().numpy()
            all_locs.append(locs)
        return dict(kept, locs=torch.stack(all_locs, -1).cpu().numpy())

    def _axes(self, windows: dict, border: str) -> Iterator[Tuple[int, np.ndarray, int]]:
        for axis, (name, e) in enumerate(zip('xy', self._half_widths)):
            locs = windows['locs'][..., axis]
            counts = _in_window(locs, self.codec.num_bins[axis], e, border)
            yield axis, windows[name].astype(np.float32) * counts, e

    def _decode(self, windows: dict, decoder: dict) -> np.ndarray:
        codec = another_decoder(self.codec, decoder)
        bins = np.stack(
            [
                decode_daec_1d(v, np.full(v.shape[:-1], e), codec.sigma[axis], codec.delta[axis])
                - e
                for axis, v, e in self._axes(windows, decoder['border'])
            ],
            -1,
        )
        return (windows['locs'] + bins) * self.codec.decoded_scale_factor

    def _decode_pairs(self, windows: dict, border: str) -> np.ndarray:
        found = []
        for axis, vectors, e in self._axes(windows, border):
            cover = _cover(self.deltas, self.codec.sigma[axis], e)
            steps = np.arange(-e, e + 1)
            with np.errstate(invalid='ignore'):
                mean = vectors @ (cover * steps).T / (vectors @ cover.T)  # (P, K, D)
            locs = windows['locs'][..., axis, None]
            found.append(np.moveaxis(locs + np.nan_to_num(mean), -1, 1))  # (P, D, K)
        pairs = np.broadcast_arrays(found[0][:, :, None], found[1][:, None])
        return np.stack(pairs, -1) * self.codec.decoded_scale_factor


def keep_outputs(codec: BaseKeypointCodec) -> Outputs:
    """An empty collection of the outputs that a codec decodes."""
    return (SimCCOutputs if isinstance(codec, SimCCCodec) else HeatmapOutputs)(codec)
