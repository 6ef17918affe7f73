# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the functions of this package need to know of an array.

They take torch tensors or numpy arrays and return what they were given. Each
formula is written once, in what both libraries call by the same name. Tensors
stay on their device and can be exported; for arrays on the CPU numpy is the
faster one: an operation on the few numbers of one sample costs it a third of
torch's time, and its argmax reads at memory speed.
"""
from types import ModuleType
from typing import Any, Sequence, Union

import numpy as np
import torch
from torch import Tensor

Array = Union[Tensor, np.ndarray]


def namespace(array: Array) -> ModuleType:
    """The library of an array: ``torch`` or ``numpy``."""
    return torch if isinstance(array, Tensor) else np


def as_array(values: Any, like: Array) -> Array:
    """Numbers on the host, or an array, with kind, dtype and device of
    ``like``. Does not wait for the device."""
    if isinstance(like, Tensor):
        return torch.as_tensor(values, dtype=like.dtype).to(
            like.device, non_blocking=True)
    return np.asarray(values, dtype=like.dtype)


def arange(start: int, stop: int, like: Array) -> Array:
    """Integers from start to stop - 1, of the kind and on the device of
    ``like``."""
    if isinstance(like, Tensor):
        return torch.arange(start, stop, device=like.device)
    return np.arange(start, stop)


def stack(arrays: Sequence[Array]) -> Array:
    """Arrays of a shape along a new first axis."""
    # np.stack takes four times as long
    if isinstance(arrays[0], Tensor):
        return torch.stack(arrays)
    return np.array(arrays)


def is_floating(array: Array) -> bool:
    """Whether the dtype is a floating-point one."""
    if isinstance(array, Tensor):
        return array.is_floating_point()
    return array.dtype.kind == 'f'


def is_double(array: Array) -> bool:
    """Whether the dtype is float64."""
    return array.dtype == namespace(array).float64


def as_index(array: Array) -> Array:
    """Whole numbers as int64."""
    return array.long() if isinstance(array, Tensor) else array.astype(
        np.int64)


def exp_(exponents: Array) -> Array:
    """exp(max(e, -80)), in place. Smaller results are subnormal in float32,
    and cost a processor a hundred times as much as others."""
    if isinstance(exponents, Tensor):
        return exponents.clamp_(min=-80).exp_()
    np.maximum(exponents, -80, out=exponents)
    return np.exp(exponents, out=exponents)


def crops(cells: Array, start: Array, height: int, width: int,
          pitch: int) -> Array:
    """Rectangles cut out of rows of cells.

    Args:
        cells (Array): All rows one after another, contiguous, shape (n,).
        start (Array): Where the first cell of each rectangle lies, int64,
            shape (...).
        height (int): Rows of a rectangle.
        width (int): Cells of each of its rows.
        pitch (int): Cells from one row to the next.

    Returns:
        Array: Shape (..., height, width).
    """
    if not isinstance(cells, Tensor):
        # A view in which every cell starts a rectangle: indexing it copies
        # whole rows, several times as fast as a list of all cells.
        size = cells.itemsize
        number = cells.size - (height - 1) * pitch - width + 1
        view = np.ndarray((max(0, number), height, width),
                          cells.dtype,
                          buffer=cells,
                          strides=(size, pitch * size, size))
        return view[start]
    rows = arange(0, height, cells).unsqueeze(-1) * pitch
    return cells[start[..., None, None] + rows + arange(0, width, cells)]
