# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Codecs of this package against stock MMPose's."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import numpy as np
import torch
from mmpose.codecs import MSRAHeatmap, SimCCLabel, UDPHeatmap
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.utils.tensor_utils import to_numpy

from mmpose_simcc.codecs import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec

from . import published
from .timing import OURS, Comparison

BATCHES = dict(cpu=32, cuda=64)
KEYPOINTS = 17
STOCK = 'stock'
UDP = 'stock UDP'
LOOPS = 'loops'  # over keypoints, as in the papers' code
FLOOR = 'argmax'  # numpy's, over the same maps: one read of them
FILL = 'fill'  # one write of the labels
READ = 'read'  # on a GPU: the sum of the same maps


@dataclass
class Setting:
    """The papers' settings of an input size."""

    input_size: Tuple[int, int]
    heatmap_size: Tuple[int, int]
    sigma: float
    blur_kernel_size: int
    simcc_split_ratio: float = 2.0
    simcc_sigma: float = 6.0

    def __str__(self) -> str:
        width, height = self.input_size
        return f'{height}x{width}'

    @property
    def heatmap(self) -> dict:
        return dict(input_size=self.input_size, heatmap_size=self.heatmap_size, sigma=self.sigma)

    @property
    def simcc(self) -> dict:
        return dict(
            input_size=self.input_size,
            simcc_split_ratio=self.simcc_split_ratio,
            sigma=self.simcc_sigma,
        )


SETTINGS = (Setting((192, 256), (48, 64), 2, 11), Setting((288, 384), (72, 96), 3, 17))


@dataclass
class Peer:
    """A stock codec.

    Attributes:
        codec (BaseKeypointCodec): The codec.
        tolerance (float): How far in pixels its answers may lie from ours.
        share (float): The part of the answers that must lie so near: all,
            but where the peer's formula is another one.
        factor (float | np.ndarray): Takes its pixels to ours.
    """

    codec: BaseKeypointCodec
    tolerance: float = 1e-3
    share: float = 1.0
    factor: Union[float, np.ndarray] = 1.0


# how many times as fast as stock, at 256x192
AIMS = {
    ('batch decode', 'DARK'): 25,
    ('batch decode', 'quarter'): 12,
    ('decode', 'DARK'): 3,
    ('decode', 'SimCC'): 0.5,
    ('decode', 'SimCC, raw score'): 1,
    ('encode', 'heatmap, unbiased'): 5,
    ('encode', 'heatmap, biased'): 5,
    ('encode', 'SimCC, Gaussian'): 5,
}
# DAEC has no stock peer: 4 times the floor and 15 microseconds
DAEC_AIM, DAEC_SLACK = 1 / 4, 15e-6


def _keypoints(setting: Setting, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Anywhere in the image, in pixels, shape (batch, K, 2)."""
    size = np.array(setting.input_size)
    return rng.uniform(0, size - 1, (batch, KEYPOINTS, 2)).astype(np.float32)


def _responses(
    codec: BaseKeypointCodec, setting: Setting, batch: int, rng: np.random.Generator
) -> Tuple[np.ndarray, ...]:
    """Labels of two keypoints each, one at 0.6 of its height, with noise.

    Returns:
        tuple: Heatmaps, or SimCC vectors along x and along y; peaks of 1.
    """
    parts = []
    for height in (1.0, 0.6):
        keypoints = _keypoints(setting, batch, rng)[:, None]
        encoded = codec.encode_tensors(keypoints, np.ones_like(keypoints[..., 0]))
        if 'heatmaps' in encoded:
            labels = [encoded['heatmaps']]
        else:
            labels = [encoded[f'keypoint_{axis}_labels'][:, 0] for axis in 'xy']
        parts.append([height * label / label.max() for label in labels])
    return tuple(
        (np.maximum(one, other) + 0.02 * rng.standard_normal(one.shape)).astype(np.float32)
        for one, other in zip(*parts)
    )


def _stock_decode(codec: BaseKeypointCodec, outputs: Tuple[torch.Tensor, ...]) -> Callable:
    """Decode as MMPose's heads do it with a codec that takes no batch."""
    if len(outputs) == 1:
        return lambda: [codec.decode(sample) for sample in to_numpy(outputs[0], unzip=True)]
    if codec.use_dark:  # blurs its input in place
        return lambda: [
            codec.decode(*sample)
            for sample in to_numpy(tuple(item.clone() for item in outputs), unzip=True)
        ]
    return lambda: [codec.decode(*sample) for sample in to_numpy(outputs, unzip=True)]


def _answers(decoded: Any) -> np.ndarray:
    """Keypoints of what a codec or a batch of them returned."""
    if isinstance(decoded, list):
        return np.concatenate([keypoints for keypoints, _ in decoded])
    keypoints = decoded[0]
    return np.concatenate(keypoints) if isinstance(keypoints, list) else keypoints


def _agree(
    name: str, ours: np.ndarray, peer: np.ndarray, tolerance: float, share: float = 1.0
) -> None:
    """Raises an AssertionError if too many answers are further off."""
    assert ours.shape == peer.shape, f'{name}: {ours.shape}, {peer.shape}'
    near = float((np.abs(ours - peer) <= tolerance).mean())
    assert near >= share, (
        f'{name}: {100 * near:.2f}% of the answers differ by at most '
        f'{tolerance}, less than {100 * share:g}%'
    )


def _decode(
    method: str,
    setting: Setting,
    ours: BaseKeypointCodec,
    peers: Dict[str, Peer],
    loops: Optional[Callable],
    responses: Tuple[np.ndarray, ...],
    device: str,
) -> List[Comparison]:
    """Decode one sample and a batch.

    Args:
        peers (dict): Stock codecs by name.
        loops (callable, optional): From heatmaps to cells, by loops.
    """
    outputs = tuple(torch.from_numpy(item).to(device) for item in responses)
    sample = tuple(item[0] for item in responses)
    number = len(responses[0])
    floor = [item.reshape(-1, item.shape[-1]) for item in responses]
    if len(responses) == 1:
        floor = [responses[0].reshape(number * KEYPOINTS, -1)]
    one = {OURS: lambda: ours.decode(*sample)}
    batch = {OURS: lambda: ours.batch_decode(*outputs)}
    if device == 'cpu':
        one[FLOOR] = lambda: [f[:KEYPOINTS].argmax(1) for f in floor]
        batch[FLOOR] = lambda: [f.argmax(1) for f in floor]
    else:
        batch[READ] = lambda: [item.sum() for item in outputs]
    for name, peer in peers.items():
        one[name] = _stock_decode(peer.codec, tuple(o[:1] for o in outputs))
        batch[name] = _stock_decode(peer.codec, outputs)
    if loops and device == 'cpu':
        one[LOOPS] = lambda: loops(responses[0][:1])
        batch[LOOPS] = lambda: loops(responses[0])

    def check(functions) -> Callable:

        def run() -> None:
            expected = _answers(functions[OURS]())
            for name, peer in peers.items():
                _agree(
                    f'{method}, {name}',
                    expected,
                    peer.factor * _answers(functions[name]()),
                    peer.tolerance,
                    peer.share,
                )
            if LOOPS in functions:
                _agree(
                    f'{method}, {LOOPS}',
                    expected,
                    functions[LOOPS]() * ours.scale_factor,
                    1e-3 * ours.scale_factor[0],
                    # HRNet's rule at the border is not MMPose's
                    0.9 if method == 'quarter' else 1.0,
                )

        return run

    comparisons = []
    for task, functions, items in (('decode', one, 1), ('batch decode', batch, number)):
        comparison = Comparison(
            task,
            method,
            str(setting),
            functions,
            dict.fromkeys(functions, items),
            check=check(functions),
        )
        _set_aim(comparison, setting)
        comparisons.append(comparison)
    return comparisons if device == 'cpu' else comparisons[1:]


def _encode_there(
    method: str,
    setting: Setting,
    ours: BaseKeypointCodec,
    stock: BaseKeypointCodec,
    rng: np.random.Generator,
) -> Comparison:
    """Encode a batch on the GPU, where stock's data worker encodes each sample."""
    keypoints = _keypoints(setting, BATCHES['cuda'], rng)[:, None]
    visible = np.ones(keypoints.shape[:-1], dtype=np.float32)
    there = torch.from_numpy(keypoints).cuda(), torch.from_numpy(visible).cuda()
    labels = list(ours.encode_tensors(*there).values())
    functions = {
        OURS: lambda: ours.encode_tensors(*there),
        STOCK: lambda: [stock.encode(*sample) for sample in zip(keypoints, visible)],
        FILL: lambda: [torch.ones_like(label) for label in labels],
    }
    items = dict.fromkeys(functions, len(keypoints))
    return Comparison('encode there', method, str(setting), functions, items)


def _set_aim(comparison: Comparison, setting: Setting) -> None:
    task = comparison.task, comparison.method
    if setting is not SETTINGS[0]:
        return
    if task in AIMS and STOCK in comparison.functions:
        comparison.aim, comparison.peer = AIMS[task], STOCK
    if task == ('batch decode', 'DAEC') and FLOOR in comparison.functions:
        comparison.aim, comparison.peer = DAEC_AIM, FLOOR
        comparison.slack = DAEC_SLACK


def _encode(
    method: str,
    setting: Setting,
    ours: BaseKeypointCodec,
    peers: Dict[str, BaseKeypointCodec],
    loops: Callable,
    grid: Optional[float],
    rng: np.random.Generator,
) -> Comparison:
    """Encode one sample, as the data workers do.

    Args:
        peers (dict): Stock codecs by name.
        loops (callable): From keypoints (K, 2) to labels, by loops.
        grid (float, optional): Pixels to whose multiples keypoints are
            rounded, where a peer rounds them itself.
    """
    keypoints = _keypoints(setting, 1, rng)
    if grid is not None:
        keypoints = np.round(keypoints / grid) * grid
    visible = np.ones((1, KEYPOINTS), dtype=np.float32)
    arrays = [
        value for key, value in ours.encode(keypoints, visible).items() if key != 'keypoint_weights'
    ]
    functions = {OURS: lambda: ours.encode(keypoints, visible)}
    for name, codec in peers.items():
        functions[name] = lambda codec=codec: codec.encode(keypoints, visible)

    def check() -> None:
        expected = functions[OURS]()
        for name in peers:
            labels = functions[name]()
            for key, values in expected.items():
                _agree(f'{method}, {name}, {key}', values, labels[key], 1e-6)
        for array, label in zip(arrays, functions[LOOPS]()):
            _agree(f'{method}, {LOOPS}', array.reshape(label.shape), label, 1e-6)

    functions[LOOPS] = lambda: loops(keypoints[0])
    functions[FILL] = lambda: [np.ones_like(array) for array in arrays]
    comparison = Comparison(
        'encode', method, str(setting), functions, dict.fromkeys(functions, 1), check=check
    )
    _set_aim(comparison, setting)
    return comparison


def codec_comparisons(
    device: str = 'cpu', settings: Tuple[Setting, ...] = SETTINGS, seed: int = 0
) -> List[Comparison]:
    """Every codec against its stock peers and the floor.

    Maps are Gaussians with a second peak and noise, 17 keypoints a sample. On
    a GPU only batches are compared, which is what runs there: "there" is
    without a copy from it or to it.

    Args:
        device (str): Where the maps of a batch lie.
        settings (tuple[Setting]): Input sizes.
        seed (int): Of keypoints and noise.
    """
    comparisons = []
    for setting in settings:
        rng = np.random.default_rng(seed)
        heatmap, kernel = setting.heatmap, setting.blur_kernel_size
        quarter, dark = HeatmapCodec(**heatmap), DARKCodec(**heatmap)
        simcc = SimCCCodec(**setting.simcc)
        simcc_raw = SimCCCodec(**setting.simcc, score='maximum')  # stock's
        simcc_dark = SimCCCodec(**setting.simcc, refine='dark')
        stock_quarter = MSRAHeatmap(**heatmap)
        stock_unbiased = MSRAHeatmap(**heatmap, unbiased=True, blur_kernel_size=kernel)
        udp = UDPHeatmap(**heatmap, blur_kernel_size=kernel)
        cells = np.array(setting.heatmap_size)
        cell = setting.input_size[0] / cells[0]
        stock_dark = Peer(stock_unbiased, tolerance=1e-3 * cell)
        # UDP: a cell is w / (W - 1) pixels, and the stencil is another
        udp = Peer(udp, tolerance=cell, share=0.9, factor=(cells - 1) / cells)
        # stock refines SimCC logits, not probabilities
        stock_simcc_dark = Peer(
            SimCCLabel(**setting.simcc, use_dark=True), tolerance=2.0, share=0.9
        )
        stock_simcc = SimCCLabel(**setting.simcc)
        maps = _responses(dark, setting, BATCHES[device], rng)
        vectors = _responses(simcc, setting, BATCHES[device], rng)
        daec = DAECCodec(**heatmap)
        dark_loops = partial(published.decode_dark, blur_kernel_size=kernel)
        daec_loops = partial(
            published.decode_daec, sigma=setting.sigma, delta=int(setting.sigma + 2)
        )
        for method, ours, peers, loops, responses in (
            ('argmax', HeatmapCodec(**heatmap, refine='none'), {}, None, maps),
            ('quarter', quarter, {STOCK: Peer(stock_quarter)}, published.decode_quarter, maps),
            ('DARK', dark, {STOCK: stock_dark, UDP: udp}, dark_loops, maps),
            ('DAEC', daec, {}, daec_loops, maps),
            ('SimCC', simcc, {STOCK: Peer(stock_simcc)}, None, vectors),
            ('SimCC, raw score', simcc_raw, {STOCK: Peer(stock_simcc)}, None, vectors),
            ('SimCC, DARK', simcc_dark, {STOCK: stock_simcc_dark}, None, vectors),
        ):
            comparisons += _decode(method, setting, ours, peers, loops, responses, device)
        if device == 'cpu':
            k = setting.simcc_split_ratio
            gaussian = dict(
                cell=quarter.scale_factor, heatmap_size=setting.heatmap_size, sigma=setting.sigma
            )
            biased = partial(published.encode_biased, **gaussian)
            unbiased = partial(published.encode_unbiased, **gaussian)
            vector = partial(
                published.encode_simcc,
                simcc_split_ratio=k,
                num_bins=simcc.num_bins,
                sigma=setting.simcc_sigma,
            )
            comparisons += [
                _encode(
                    'heatmap, biased', setting, quarter, {STOCK: stock_quarter}, biased, None, rng
                ),
                _encode(
                    'heatmap, unbiased', setting, dark, {STOCK: stock_unbiased}, unbiased, None, rng
                ),
                _encode(
                    'SimCC, Gaussian', setting, simcc, {STOCK: stock_simcc}, vector, 1 / k, rng
                ),
            ]
        else:
            comparisons += [
                _encode_there('heatmap, biased', setting, quarter, stock_quarter, rng),
                _encode_there('heatmap, unbiased', setting, dark, stock_unbiased, rng),
                _encode_there('SimCC, Gaussian', setting, simcc, stock_simcc, rng),
            ]
    return comparisons
