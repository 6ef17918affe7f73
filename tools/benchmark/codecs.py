# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Codecs of this package against stock MMPose's."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch
from mmpose.codecs import MSRAHeatmap, SimCCLabel
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.utils.tensor_utils import to_numpy

from mmpose_simcc.codecs import DAECCodec, DARKCodec, HeatmapCodec, SimCCCodec

from .comparison import OURS, Aim, Comparison

BATCH = 32
KEYPOINTS = 17
STOCK = 'stock'
FLOOR = 'floor'  # the argmax of each map, which is one read of them; one write of the labels


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

# at 256x192 on a CPU
AIMS = {
    ('batch decode', 'DARK'): Aim(STOCK, 25),
    ('batch decode', 'quarter'): Aim(STOCK, 12),
    ('batch decode', 'DAEC'): Aim(FLOOR, 1 / 4, slack=15e-6),  # stock has none
    ('decode', 'DARK'): Aim(STOCK, 3),
    ('decode', 'SimCC'): Aim(STOCK, 0.5),
    ('decode', 'SimCC, raw score'): Aim(STOCK, 1),
    ('encode', 'heatmap, unbiased'): Aim(STOCK, 5),
    ('encode', 'heatmap, biased'): Aim(STOCK, 5),
    ('encode', 'SimCC, Gaussian'): Aim(STOCK, 5),
}


def _keypoints(setting: Setting, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Anywhere in the image, in pixels, shape (batch, K, 2)."""
    size = np.array(setting.input_size)
    return rng.uniform(0, size - 1, (batch, KEYPOINTS, 2)).astype(np.float32)


def _responses(
    codec: BaseKeypointCodec, setting: Setting, rng: np.random.Generator
) -> Tuple[np.ndarray, ...]:
    """Labels of two keypoints each, one at 0.6 of its height, with noise.

    Returns:
        tuple: Heatmaps, or SimCC vectors along x and along y; peaks of 1.
    """
    parts = []
    for height in (1.0, 0.6):
        keypoints = _keypoints(setting, BATCH, rng)[:, None]
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


def _agree(name: str, ours: np.ndarray, stock: np.ndarray, tolerance: float, share: float) -> None:
    """Raise an AssertionError if less than ``share`` of the answers are within ``tolerance``."""
    assert ours.shape == stock.shape, f'{name}: {ours.shape}, {stock.shape}'
    near = float((np.abs(ours - stock) <= tolerance).mean())
    assert near >= share, (
        f'{name}: {100 * near:.2f}% of the answers differ by at most '
        f'{tolerance}, less than {100 * share:g}%'
    )


def _decode(
    method: str,
    setting: Setting,
    ours: BaseKeypointCodec,
    stock: Optional[BaseKeypointCodec],
    responses: Tuple[np.ndarray, ...],
    device: str,
    tolerance: float = 4e-3,
    share: float = 1.0,
) -> List[Comparison]:
    """Decode one sample, and a batch; on a GPU a batch alone, which is what runs there.

    Args:
        tolerance (float): How far in pixels stock's answers may lie from ours.
        share (float): The part of the answers that must lie so near.
    """
    outputs = tuple(torch.from_numpy(item).to(device) for item in responses)
    sample = tuple(item[0] for item in responses)
    maps = responses if device == 'cpu' else outputs  # numpy finds maxima faster than torch
    rows = [item.reshape(BATCH * KEYPOINTS, -1) for item in maps]
    one = {
        OURS: lambda: ours.decode(*sample),
        FLOOR: lambda: [item[:KEYPOINTS].argmax(1) for item in rows],
    }
    batch = {
        OURS: lambda: ours.batch_decode(*outputs),
        FLOOR: lambda: [item.argmax(1) for item in rows],
    }
    if stock:
        one[STOCK] = _stock_decode(stock, tuple(item[:1] for item in outputs))
        batch[STOCK] = _stock_decode(stock, outputs)

    def check_of(functions: Dict[str, Callable]) -> Callable[[], None]:
        def check() -> None:
            answers = (_answers(functions[name]()) for name in (OURS, STOCK))
            _agree(method, *answers, tolerance, share)

        return check if stock else None

    in_turn = [('decode', one, 1), ('batch decode', batch, BATCH)]
    return [
        Comparison(task, method, str(setting), functions, images, check=check_of(functions))
        for task, functions, images in in_turn[0 if device == 'cpu' else 1 :]
    ]


def _encode(
    method: str,
    setting: Setting,
    ours: BaseKeypointCodec,
    stock: BaseKeypointCodec,
    rng: np.random.Generator,
) -> Comparison:
    """Encode one sample, as the data workers do."""
    # at bins, to which stock's SimCC rounds
    k = setting.simcc_split_ratio
    keypoints = np.round(k * _keypoints(setting, 1, rng)) / k
    visible = np.ones((1, KEYPOINTS), dtype=np.float32)
    labels = [
        values for name, values in ours.encode(keypoints, visible).items() if 'weights' not in name
    ]
    functions = {
        OURS: lambda: ours.encode(keypoints, visible),
        STOCK: lambda: stock.encode(keypoints, visible),
        FLOOR: lambda: [np.ones_like(label) for label in labels],
    }

    def check() -> None:
        expected = functions[STOCK]()
        for name, values in functions[OURS]().items():
            _agree(f'{method}, {name}', values, expected[name], 1e-6, 1.0)

    return Comparison('encode', method, str(setting), functions, check=check)


def codec_comparisons(
    device: str = 'cpu', settings: Tuple[Setting, ...] = SETTINGS, seed: int = 0
) -> List[Comparison]:
    """Every codec against its stock peer and the floor.

    Maps are Gaussians with a second peak and noise, 17 keypoints a sample.

    Args:
        device (str): Where the maps of a batch lie.
        settings (tuple[Setting]): Input sizes.
        seed (int): Of keypoints and noise.
    """
    comparisons = []
    for setting in settings:
        rng = np.random.default_rng(seed)
        quarter, dark = HeatmapCodec(**setting.heatmap), DARKCodec(**setting.heatmap)
        simcc = SimCCCodec(**setting.simcc)
        simcc_raw = SimCCCodec(**setting.simcc, score='maximum')  # stock's score
        stock_quarter = MSRAHeatmap(**setting.heatmap)
        stock_dark = MSRAHeatmap(
            **setting.heatmap, unbiased=True, blur_kernel_size=setting.blur_kernel_size
        )
        stock_simcc = SimCCLabel(**setting.simcc)
        maps, vectors = (_responses(codec, setting, rng) for codec in (dark, simcc))
        for method, ours, stock, responses in (
            ('argmax', HeatmapCodec(**setting.heatmap, refine='none'), None, maps),
            ('quarter', quarter, stock_quarter, maps),
            ('DARK', dark, stock_dark, maps),
            ('DAEC', DAECCodec(**setting.heatmap), None, maps),
            ('SimCC', simcc, stock_simcc, vectors),
            ('SimCC, raw score', simcc_raw, stock_simcc, vectors),
        ):
            comparisons += _decode(method, setting, ours, stock, responses, device)
        # stock refines logits, not probabilities
        comparisons += _decode(
            'SimCC, DARK',
            setting,
            SimCCCodec(**setting.simcc, refine='dark'),
            SimCCLabel(**setting.simcc, use_dark=True),
            vectors,
            device,
            tolerance=2.0,
            share=0.9,
        )
        if device == 'cpu':
            comparisons += [
                _encode('heatmap, biased', setting, quarter, stock_quarter, rng),
                _encode('heatmap, unbiased', setting, dark, stock_dark, rng),
                _encode('SimCC, Gaussian', setting, simcc, stock_simcc, rng),
            ]
    if device == 'cpu':
        for comparison in comparisons:
            if comparison.size == str(SETTINGS[0]):
                comparison.aim = AIMS.get((comparison.task, comparison.method))
    return comparisons
