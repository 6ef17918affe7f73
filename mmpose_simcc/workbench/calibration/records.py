# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What is kept of network outputs, and how it is decoded at any factor."""

import copy
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np
import torch
from mmpose.registry import KEYPOINT_CODECS, MODELS
from torch import Tensor

from ...codecs import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec, equivalent_codec
from ...functional import daec_radius, empirical_delta, heatmap_argmax, vector_argmax
from .windows import (
    Windows,
    decode_grid,
    decode_windows,
    decode_windows_1d,
    extract_windows,
    extract_windows_1d,
    smooth_windows,
    weigh_windows,
    weigh_windows_1d,
)

Arrays = Dict[str, np.ndarray]


class Setting(NamedTuple):
    """What is chosen beside the factor.

    Attributes:
        corner (str): The corner of the window that is cut.
        smooth (bool): Whether the map is smoothed first.
        border (str): What the window does at the map's border.
    """

    corner: str = 'br'
    smooth: bool = False
    border: str = 'clip'

    def __str__(self) -> str:
        parts = [self.corner]
        if self.smooth:
            parts.append('smoothed')
        if self.border == 'symmetric':
            parts.append('symmetric border')
        return ', '.join(parts)


def _store(windows: Tensor, peaks: Tensor, shape: tuple) -> np.ndarray:
    """Windows relative to their peak as float16. Of 10 bits, the rounding
    moves the mean of a window by less than 0.001 cells."""
    relative = (windows.flatten(1) / peaks.unsqueeze(-1)).clamp(0, 65504)
    return relative.reshape(*shape, *windows.shape[1:]).half().cpu().numpy()


def _for_windows(deltas: np.ndarray, people: int) -> Tensor:
    """Factors (D, K, 2) for each of P * K windows, (P * K, D, 2); those of all
    keypoints, (D, 1, 2), for all windows, (1, D, 2)."""
    deltas = torch.from_numpy(np.array(deltas, np.float32)).movedim(0, 1)
    return deltas if len(deltas) == 1 else deltas.repeat(people, 1, 1)


class HeatmapRecords:
    """Records of heatmaps: the window of each, raw and smoothed.

    Args:
        codec (BaseHeatmapCodec): The head's decoder.
        low (float, optional): The smallest factor that will be asked for, -2
            by default.
    """

    representation = 'heatmap'
    settings = tuple(
        Setting(corner, smooth, border)
        for border in ('clip', 'symmetric')
        for smooth in (False, True)
        for corner in ('br', 'ur', 'bl', 'ul')
    )
    default_step = 0.25  # cells
    unit = 'cells'

    def __init__(self, codec, low: Optional[float] = None) -> None:
        geometry = {
            name: getattr(codec, name)
            for name in ('input_size', 'heatmap_size', 'sigma', 'blur_kernel_size', 'use_udp')
        }
        self.references = dict(
            argmax=HeatmapCodec(refine='none', **geometry),
            quarter=HeatmapCodec(refine='quarter', **geometry),
            dark=DARKCodec(**geometry),
        )
        self.codec = self.references['argmax']
        self.own_setting = (
            Setting(codec.corner, codec.smooth, codec.border)
            if isinstance(codec, DAECCodec)
            else Setting()
        )
        self.high = daec_radius(self.codec.sigma)
        self.low = -2.0 if low is None else low
        self.half_width = self.high + max(0, -int(np.floor(self.low)))

    @property
    def identity(self) -> dict:
        """What a learned factor is valid for."""
        codec = self.codec
        return dict(
            sigma=codec.sigma,
            heatmap_size=list(codec.heatmap_size),
            blur_kernel_size=codec.blur_kernel_size,
        )

    def empirical(self, setting: Setting) -> float:
        return float(empirical_delta(self.codec.sigma, setting.smooth))

    def record(self, heatmaps: Tensor) -> Arrays:
        """Keep what any factor needs.

        Args:
            heatmaps (Tensor): Shape (B, K, H, W).

        Returns:
            dict: ``locs`` int16 (B, K, 2), ``peaks`` float32 (B, K),
            ``raw`` and ``smoothed`` windows float16 (B, K, S, S).
        """
        shape = heatmaps.shape[:2]
        maps = heatmaps.float().flatten(0, 1)
        locs, peaks = heatmap_argmax(maps)
        usable = peaks.isfinite() & (peaks > 0)
        # relative to an infinite peak a window is empty: argmax remains
        maps = torch.where(usable[:, None, None], maps, torch.zeros_like(maps))
        peaks = peaks.masked_fill(~usable, float('inf'))
        kernel_size = self.codec.blur_kernel_size
        margin = kernel_size // 2
        windows = extract_windows(maps, locs, self.half_width + margin)
        raw = windows[:, margin : windows.shape[1] - margin, margin : windows.shape[2] - margin]
        smoothed = smooth_windows(windows, locs, self.codec.heatmap_size, kernel_size)
        return dict(
            locs=locs.view(*shape, 2).short().cpu().numpy(),
            peaks=peaks.view(shape).cpu().numpy(),
            raw=_store(raw, peaks, shape),
            smoothed=_store(smoothed, peaks, shape),
        )

    def arrays(self, setting: Setting) -> Tuple[str, ...]:
        """Of what was recorded, that by which a setting decodes."""
        return ('locs', 'peaks', 'smoothed' if setting.smooth else 'raw')

    def _weighed(self, records: Arrays, setting: Setting) -> Tuple[Windows, Tensor]:
        """Windows that wait for a factor, and their maxima, (M, 2)."""
        windows = records['smoothed' if setting.smooth else 'raw']
        locs = torch.from_numpy(records['locs']).long().flatten(0, 1)
        windows = torch.from_numpy(windows).flatten(0, 1).float()
        peaks = torch.from_numpy(records['peaks']).flatten()
        weighed = weigh_windows(
            windows,
            locs,
            peaks,
            self.codec.heatmap_size,
            self.codec.sigma,
            setting.border,
        )
        return weighed, locs

    def decode(self, records: Arrays, setting: Setting, deltas: np.ndarray) -> np.ndarray:
        """Keypoints at chosen factors.

        Args:
            records (dict): See :meth:`record`; those of P people.
            setting (Setting): Corner, smoothing and border.
            deltas (np.ndarray): Factors (x, y), shape (D, K or 1, 2).

        Returns:
            np.ndarray: Input-image pixels, shape (P, D, K, 2).
        """
        P, K = records['peaks'].shape
        windows, locs = self._weighed(records, setting)
        cells = decode_windows(windows, _for_windows(deltas, P), setting.corner)
        cells += locs.mT.unsqueeze(-1)
        return self._to_input(cells.view(2, P, K, -1).permute(1, 3, 2, 0))

    def decode_pairs(self, records: Arrays, setting: Setting, deltas: np.ndarray) -> np.ndarray:
        """Keypoints at every pair (x, y) of factors.

        Args:
            records (dict): See :meth:`record`; those of P people.
            setting (Setting): Corner, smoothing and border.
            deltas (np.ndarray): Factors, shape (D,).

        Returns:
            np.ndarray: Input-image pixels, shape (P, D, D, K, 2).
        """
        P, K = records['peaks'].shape
        windows, locs = self._weighed(records, setting)
        deltas = torch.from_numpy(np.asarray(deltas, np.float32))
        cells = decode_grid(windows, deltas, setting.corner) + locs.mT[..., None, None]
        D = len(deltas)
        return self._to_input(cells.view(2, P, K, D, D).permute(1, 3, 4, 2, 0))

    def _to_input(self, cells: Tensor) -> np.ndarray:
        return cells.numpy() * np.float32(self.codec.decoded_scale_factor)


class SimCCRecords:
    """Records of SimCC vectors: the window along each axis.

    Args:
        codec (SimCCCodec): The head's decoder.
        low (float, optional): The smallest factor that will be asked for,
            -sigma by default.
    """

    representation = 'simcc'
    settings = (Setting(),)
    own_setting = Setting()
    default_step = 0.5  # bins
    unit = 'bins'

    def __init__(self, codec: SimCCCodec, low: Optional[float] = None) -> None:
        self.references = {}
        for name, refine in (('argmax', 'none'), ('dark', 'dark')):
            self.references[name] = copy.copy(codec)
            self.references[name].refine = refine
        self.codec = self.references['argmax']
        self.high = min(daec_radius(sigma) for sigma in self.codec.sigma)
        self.low = -max(self.codec.sigma) if low is None else low
        widened = max(0, -int(np.floor(self.low)))
        self.half_width = tuple(daec_radius(sigma) + widened for sigma in self.codec.sigma)

    @property
    def identity(self) -> dict:
        """What a learned factor is valid for."""
        codec = self.codec
        return dict(
            sigma=list(codec.sigma),
            simcc_split_ratio=codec.simcc_split_ratio,
            input_size=list(codec.input_size),
        )

    def empirical(self, setting: Setting) -> float:
        """A symmetric window: the papers have no rule for vectors."""
        return 0.0

    def record(self, simcc_x: Tensor, simcc_y: Tensor) -> Arrays:
        """Keep what any factor needs.

        Args:
            simcc_x (Tensor): Logits, shape (B, K, w * k).
            simcc_y (Tensor): Logits, shape (B, K, h * k).

        Returns:
            dict: ``locs`` int16 and ``peaks`` float32 (B, K, 2), windows
            ``x`` and ``y`` float16 (B, K, S).
        """
        shape = simcc_x.shape[:2]
        arrays, locs, peaks = {}, [], []
        for name, logits, half_width in zip('xy', (simcc_x, simcc_y), self.half_width):
            logits = logits.float().flatten(0, 1) * self.codec.beta
            loc, top = vector_argmax(logits)
            relative = (logits - top.unsqueeze(-1)).exp()
            peak = 1 / relative.sum(-1)
            # relative to an infinite peak a window is empty: argmax remains
            usable = peak.isfinite()
            relative = torch.where(usable.unsqueeze(-1), relative, torch.zeros_like(relative))
            peak = peak.masked_fill(~usable, float('inf'))
            windows = extract_windows_1d(relative, loc, half_width)
            arrays[name] = _store(windows, torch.ones_like(peak), shape)
            locs.append(loc.view(shape))
            peaks.append(peak.view(shape))
        arrays['locs'] = torch.stack(locs, -1).short().cpu().numpy()
        arrays['peaks'] = torch.stack(peaks, -1).cpu().numpy()
        return arrays

    def arrays(self, setting: Setting) -> Tuple[str, ...]:
        """See :meth:`HeatmapRecords.arrays`."""
        return ('locs', 'peaks', 'x', 'y')

    def _decode_axis(self, records: Arrays, axis: int, deltas: Tensor) -> Tensor:
        """Bins along one axis, (P * K, D), at factors (P * K, D)."""
        windows = torch.from_numpy(records['xy'[axis]])
        locs = torch.from_numpy(records['locs'][..., axis]).long().flatten()
        peaks = torch.from_numpy(records['peaks'][..., axis].copy()).flatten()
        codec = self.codec
        weighed = weigh_windows_1d(
            windows.flatten(0, 1).float(), locs, peaks, codec.num_bins[axis], codec.sigma[axis]
        )
        return decode_windows_1d(weighed, deltas) + locs.unsqueeze(1)

    def decode(self, records: Arrays, setting: Setting, deltas: np.ndarray) -> np.ndarray:
        """See :meth:`HeatmapRecords.decode`."""
        P, K, _ = records['peaks'].shape
        deltas = _for_windows(deltas, P)
        bins = torch.stack(
            [self._decode_axis(records, axis, deltas[..., axis]) for axis in (0, 1)], dim=-1
        )
        bins = bins.view(P, K, -1, 2).movedim(2, 1)
        return bins.numpy() / self.codec.bins_per_pixel

    def decode_pairs(self, records: Arrays, setting: Setting, deltas: np.ndarray) -> np.ndarray:
        """See :meth:`HeatmapRecords.decode_pairs`."""
        same = np.broadcast_to(np.asarray(deltas)[:, None, None], (len(deltas), 1, 2))
        keypoints = self.decode(records, setting, same)  # (P, D, K, 2)
        x, y = np.broadcast_arrays(keypoints[:, :, None, :, 0], keypoints[:, None, :, :, 1])
        return np.stack([x, y], axis=-1)


def build_records(decoder: dict, low: Optional[float] = None, loss: Optional[dict] = None):
    """Records for a head's decoder.

    Args:
        decoder (dict): The codec's config.
        low (float, optional): The smallest factor that will be asked for.
        loss (dict, optional): The config of the head's loss, which says what
            the outputs of a stock SimCC head mean.

    Returns:
        HeatmapRecords | SimCCRecords: The matching kind.

    Raises:
        ValueError: The decoder is neither of Gaussian heatmaps nor of SimCC.
    """
    codec = equivalent_codec(
        KEYPOINT_CODECS.build(decoder), None if loss is None else MODELS.build(loss)
    )
    return (SimCCRecords if isinstance(codec, SimCCCodec) else HeatmapRecords)(codec, low)


def reference_keypoints(records, outputs: Tuple[Tensor, ...]) -> Arrays:
    """Scores, and keypoints by the decoders to compare with.

    Args:
        records (HeatmapRecords | SimCCRecords): Whose references to use.
        outputs (tuple): Network outputs, each of shape (B, K, ...).

    Returns:
        dict: ``scores`` (B, K), and for each decoder ``by_NAME``, keypoints
        (B, K, 2) in input-image pixels.
    """
    arrays = {}
    for name, codec in records.references.items():
        keypoints, scores = codec.batch_decode(*outputs)
        arrays[f'by_{name}'] = np.concatenate(keypoints)
        arrays['scores'] = np.concatenate(scores)
    return arrays
