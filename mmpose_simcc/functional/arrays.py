# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The operations for which torch and numpy have different names.

The equations of this package take torch tensors or numpy arrays, and each is written once, in the
names that both libraries share. Tensors stay on their device and can be exported. On the CPU numpy
is faster: its argmax reads at memory speed, and on the few numbers of one sample an operation takes
a third of torch's time.
"""

from types import ModuleType
from typing import Any, Union

import numpy as np
import torch
from torch import Tensor

Array = Union[Tensor, np.ndarray]


def namespace(array: Array) -> ModuleType:
    """The library of an array: ``torch`` or ``numpy``."""
    return torch if isinstance(array, Tensor) else np


def as_array(values: Any, like: Array) -> Array:
    """Numbers or an array as an array of the kind, dtype and device of ``like``.

    The copy to a device does not block. No copy is cached: a tensor that is cached while a model is
    being exported is a fake one, and would be found by every later call.
    """
    if not isinstance(like, Tensor):
        return np.asarray(values, dtype=like.dtype)
    if isinstance(values, Tensor):
        return values.to(like)
    return torch.as_tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def as_float(array: Array) -> Array:
    """float32 or float64: half-precision numbers become float32."""
    if isinstance(array, Tensor):
        return array if array.dtype == torch.float64 else array.float()
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def is_finite(values: Array) -> Array:
    """Where values are neither infinite nor NaN. By a comparison, because few runtimes of exported
    models have ONNX's ``IsInf`` and ``IsNaN``.

    Example:
        >>> is_finite(np.array([1.0, np.inf, np.nan]))
        array([ True, False, False])
    """
    return abs(values) <= namespace(values).finfo(values.dtype).max


def arange(stop: int, like: Array) -> Array:
    """The numbers 0 to stop - 1, with kind, dtype and device of ``like``."""
    if isinstance(like, Tensor):
        return torch.arange(stop, dtype=like.dtype, device=like.device)
    return np.arange(stop, dtype=like.dtype)


def take(values: Array, index: Array) -> Array:
    """Entries of an array of one axis. Torch's own ``take`` is unknown to CoreML's converter.

    Example:
        >>> take(np.array([10, 11, 12]), np.array([[2, 0]]))
        array([[12, 10]])
    """
    return values[index] if isinstance(values, Tensor) else values.take(index)


def softmax(logits: Array) -> Array:
    """Softmax along the last axis."""
    if isinstance(logits, Tensor):
        return logits.softmax(-1)
    # torch reads the logits once, numpy would read them five times
    return torch.from_numpy(np.ascontiguousarray(logits)).softmax(-1).numpy()
