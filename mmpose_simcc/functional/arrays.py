# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the equations need to know of an array.

They take torch tensors or numpy arrays and return what they were given. Each is written once,
in the names that both libraries share; here is what the two call differently. Tensors stay on
their device and can be exported; on the CPU numpy is the faster one: its argmax reads at memory
speed, and an operation on the few numbers of one sample costs it a third of torch's time.
"""

import math
from functools import lru_cache
from types import ModuleType
from typing import Any, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

Array = Union[Tensor, np.ndarray]


def namespace(array: Array) -> ModuleType:
    """The library of an array: ``torch`` or ``numpy``."""
    return torch if isinstance(array, Tensor) else np


def as_array(values: Any, like: Array) -> Array:
    """Numbers on the host, or an array, with kind, dtype and device of ``like``."""
    if not isinstance(like, Tensor):
        return np.asarray(values, dtype=like.dtype)
    if isinstance(values, Tensor):
        return values.to(like)
    if like.device.type == 'cpu' or torch.compiler.is_compiling():
        return torch.as_tensor(values, dtype=like.dtype).to(like.device)
    values = np.asarray(values)
    return _upload(tuple(values.ravel().tolist()), values.shape, like.dtype, like.device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept serves gradients too
def _upload(
    values: Tuple[float, ...], shape: Tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Numbers on a device, which gets the same ones once: a copy from the host waits for it."""
    return torch.tensor(values, dtype=dtype, device=device).reshape(shape)


def as_float(array: Array) -> Array:
    """float32 or float64: half-precision numbers become float32."""
    if isinstance(array, Tensor):
        return array if array.dtype == torch.float64 else array.float()
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def as_index(values: Array) -> Array:
    """Whole numbers as int64."""
    return values.long() if isinstance(values, Tensor) else values.astype(np.int64)


def is_finite(values: Array) -> Array:
    """Where values are neither infinite nor NaN, by a comparison: few runtimes of exported models
    have ONNX's ``IsInf`` and ``IsNaN``."""
    return abs(values) <= namespace(values).finfo(values.dtype).max


def arange(stop: int, like: Array) -> Array:
    """The numbers 0 to stop - 1, with kind, dtype and device of ``like``."""
    if isinstance(like, Tensor):
        return torch.arange(stop, dtype=like.dtype, device=like.device)
    return np.arange(stop, dtype=like.dtype)


def full(shape: Sequence[int], value: float, like: Array) -> Array:
    """One value everywhere, with kind, dtype and device of ``like``."""
    if isinstance(like, Tensor):
        return like.new_full(shape, value)
    return np.full(shape, value, like.dtype)


def softmax(logits: Array) -> Array:
    """Softmax along the last axis."""
    if isinstance(logits, Tensor):
        return logits.softmax(-1)
    # one pass over what numpy reads five times
    return torch.from_numpy(np.ascontiguousarray(logits)).softmax(-1).numpy()


def take(vectors: Array, index: Array) -> Array:
    """Some entries of every vector.

    Args:
        vectors (Array): Shape (..., L).
        index (Array): Entries of each, int64, shape (..., n).

    Returns:
        Array: Shape (..., n).

    Example:
        >>> take(np.array([[10, 11, 12]]), np.array([[2, 0]]))
        array([[12, 10]])
    """
    if isinstance(vectors, Tensor):
        return vectors.gather(-1, index)
    M = math.prod(vectors.shape[:-1])
    rows = np.arange(M).reshape(*index.shape[:-1], 1)
    return vectors.reshape(M, vectors.shape[-1])[rows, index]


def crop(maps: Array, left: Array, top: Array, size: Tuple[int, int]) -> Array:
    """A rectangle of every map.

    Args:
        maps (Array): Shape (M, H, W).
        left (Array): First column of each rectangle, int64, shape (M,).
        top (Array): First row of each, int64, shape (M,).
        size (tuple): Its width and height (w, h); it lies on the map.

    Returns:
        Array: Shape (M, h, w).

    Example:
        >>> crop(np.arange(12).reshape(1, 3, 4), np.array([2]), np.array([1]), (2, 2))
        array([[[ 6,  7],
                [10, 11]]])
    """
    width, height = size
    if isinstance(maps, Tensor):
        M, _, W = maps.shape
        rows = (top[:, None] + arange(height, top)) * W
        cells = rows[:, :, None] + (left[:, None] + arange(width, left))[:, None, :]
        return maps.flatten(1).gather(1, cells.flatten(1)).view(M, height, width)
    # numpy copies whole rows of a view in which every cell begins a rectangle
    M, H, W = maps.shape
    view = np.lib.stride_tricks.as_strided(
        maps,
        (M, H - height + 1, W - width + 1, height, width),
        maps.strides + maps.strides[1:],
        writeable=False,
    )
    return view[np.arange(M), top, left]
