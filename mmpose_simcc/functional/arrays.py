# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the functions of this package need to know of an array.

They take torch tensors or numpy arrays and return what they were given. Each
formula is written once, in what both libraries call by the same name. Tensors
stay on their device and can be exported; for arrays on the CPU numpy is the
faster one: an operation on the few numbers of one sample costs it a third of
torch's time, and its argmax reads at memory speed.
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
    """Numbers on the host, or an array, with kind, dtype and device of
    ``like``. Does not wait for the device."""
    if isinstance(like, Tensor):
        return torch.as_tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
    return np.asarray(values, dtype=like.dtype)


@lru_cache(maxsize=128)
def _constants(values: Tuple, shape: Tuple[int, ...], dtype: np.dtype) -> Tuple[np.ndarray, ...]:
    arrays = tuple(np.empty(shape, dtype) for _ in values)
    for array, value in zip(arrays, values):
        array[...] = value
        array.setflags(write=False)
    return arrays


def constants(
    values: Tuple[Union[float, Tuple], ...], like: Array
) -> Tuple[Union[Array, float], ...]:
    """Numbers for operations with an array.

    Args:
        values (tuple[float | tuple]): Each is one number, or nested tuples of
            what broadcasts with the array's last axes.
        like (Array): The array.

    Returns:
        tuple[Array | float]: Each broadcasts with the array, on its device.
    """
    if isinstance(like, Tensor):
        return tuple(
            as_array(value, like) if isinstance(value, tuple) else value for value in values
        )
    if like.size > 16384:
        return tuple(np.array(value, like.dtype) for value in values)
    # Kept, in the array's own shape: numpy takes three times as long for
    # operands that it has to convert or to broadcast.
    return _constants(values, like.shape, like.dtype)


def constant(value: Union[float, Tuple], like: Array) -> Union[Array, float]:
    """One of :func:`constants`."""
    (number,) = constants((value,), like)
    return number


def look_up(table: np.ndarray, index: Array) -> Array:
    """Rows of a table on the host, on the device of ``index``.

    Args:
        table (np.ndarray): Shape (n, ...).
        index (Array): Rows, int64.

    Returns:
        Array: Shape (*index.shape, ...).
    """
    if isinstance(index, Tensor):
        return torch.from_numpy(table).to(index.device, non_blocking=True)[index]
    return table.take(index, 0)  # twice as fast as table[index]


def arange(start: int, stop: int, like: Array) -> Array:
    """Integers from start to stop - 1, of the kind and on the device of
    ``like``."""
    if isinstance(like, Tensor):
        return torch.arange(start, stop, device=like.device)
    return np.arange(start, stop)


@lru_cache(maxsize=64)
def _multiples(number: int, step: int) -> np.ndarray:
    return np.arange(0, number * step, step)


def multiples(number: int, step: int, like: Array) -> Array:
    """The first multiples of a step, from 0, of the kind and on the device of
    ``like``."""
    if isinstance(like, Tensor):  # exported with an unknown number
        return torch.arange(number, device=like.device) * step
    return _multiples(number, step)


def softmax(logits: Array) -> Array:
    """Softmax along the last axis."""
    if isinstance(logits, Tensor):
        return logits.softmax(-1)
    # one pass over what numpy reads five times
    logits = torch.from_numpy(np.ascontiguousarray(logits))
    return logits.softmax(-1).numpy()


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


def precision(array: Array) -> str:
    """In which of ``'float32'`` and ``'float64'`` to compute with it."""
    return 'float64' if is_double(array) else 'float32'


def whole(values: Array, low: Union[int, Array], high: Union[int, Array]) -> Array:
    """The whole part of numbers as int64, moved into [low, high]; NaN goes to
    ``low``. Arrays of bounds have the dtype of ``values``."""
    if isinstance(values, Tensor):
        values = values.nan_to_num(low).clamp(min=low)
        return values.clamp(max=high).long()
    # other than np.clip, these take the bound for NaN
    return np.fmin(np.fmax(values, low), high).astype(np.int64)


def at_least(values: Array, lowest: float) -> Array:
    """max(v, lowest); NaN stays."""
    if isinstance(values, Tensor):
        return values.clamp(min=lowest)
    # a third of the time of np.clip
    return np.maximum(values, constant(lowest, values))


def at_most(values: Array, highest: float) -> Array:
    """min(v, highest); NaN stays."""
    if isinstance(values, Tensor):
        return values.clamp(max=highest)
    return np.minimum(values, constant(highest, values))


def exp_(exponents: Array, lowest: Union[float, Array]) -> Array:
    """exp(max(e, lowest)), in place, for one of :func:`constants`. Below -87
    results are subnormal in float32, and cost a processor a hundred times as
    much as others."""
    if isinstance(exponents, Tensor):
        return exponents.clamp_(min=lowest).exp_()
    np.maximum(exponents, lowest, out=exponents)
    return np.exp(exponents, out=exponents)


@lru_cache(maxsize=64)
def _piece(size: int) -> np.dtype:
    """An item of some bytes, which numpy copies at once."""
    return np.dtype(f'V{size}')


def crops(cells: Array, start: Array, height: int, width: int, pitch: int) -> Array:
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
        # A view in which every cell starts a rectangle, and whose items are
        # whole rows: numpy copies each at once, several times as fast as cell
        # by cell.
        size = cells.itemsize
        number = cells.size - (height - 1) * pitch - width + 1
        view = np.ndarray(
            (max(0, number), height),
            _piece(width * size),
            buffer=cells,
            strides=(size, pitch * size),
        )
        return view[start].view(cells.dtype).reshape(*start.shape, height, width)
    rows = arange(0, height, cells).unsqueeze(-1) * pitch
    return cells[start[..., None, None] + rows + arange(0, width, cells)]


@lru_cache(maxsize=64)
def _lines(M: int, lengths: Tuple[int, ...]) -> Tuple[np.ndarray, Tuple]:
    """Where each of M lines begins on each axis, shape (M, A), and where each
    axis begins and ends."""
    sizes = np.array(lengths)
    ends = M * sizes.cumsum()
    starts = np.arange(M)[:, None] * sizes + ends - M * sizes
    return starts, tuple(map(slice, (ends - M * sizes).tolist(), ends.tolist()))


def place(values: Array, start: Array, lengths: Sequence[int]) -> Tuple[Array, ...]:
    """Lines of zeros, but for a piece of each.

    Args:
        values (Array): A piece of a line on each of A axes, shape
            (..., A, width).
        start (Array): Where in its line each begins, int64 in [0, length -
            width], shape (..., A).
        lengths (sequence[int]): Lengths of the lines of each axis.

    Returns:
        tuple[Array]: Lines of each axis, shape (..., length), in one piece of
        memory.
    """
    *shape, A, width = values.shape
    M = math.prod(shape)
    starts, axes = _lines(M, tuple(lengths))
    size = axes[-1].stop
    index = start.reshape(M, A) + as_array(starts, like=start)
    values = values.reshape(M, A, width)
    if isinstance(values, Tensor):
        cells = values.new_zeros(size)
        cells[index[..., None] + arange(0, width, index)] = values
    else:
        # as in `crops`
        cells = np.zeros(size, values.dtype)
        piece = _piece(width * values.itemsize)
        view = np.ndarray(
            (max(0, size - width + 1),), piece, buffer=cells, strides=(values.itemsize,)
        )
        view[index] = values.view(piece)[..., 0]
    return tuple(cells[axis].reshape(*shape, length) for axis, length in zip(axes, lengths))
