# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The SimCC loss against stock MMPose's, forward and backward."""

from typing import Callable, Dict, List

import torch
from mmpose.models.losses import KLDiscretLoss
from torch import Tensor

from mmpose_simcc.functional import simcc_equal, simcc_gaussian
from mmpose_simcc.models import SimCCKLLoss

from .codecs import STOCK
from .timing import OURS, Comparison, Result

SHAPE = (64, 17, 512)
SMOOTHING = 0.1


def _step(loss, logits: Tensor, labels: Tensor, weights: Tensor) -> Callable[[], Tensor]:
    """A forward and backward pass that returns the gradient."""

    def run() -> Tensor:
        value = loss((logits,), (labels,), weights)
        return torch.autograd.grad(value, logits)[0]

    return run


def _steps(device: str) -> Dict[str, Dict[str, Callable[[], Tensor]]]:
    """By label smoothing, the passes of ours and of stock."""
    torch.manual_seed(0)
    logits = (4 * torch.randn(SHAPE, device=device)).requires_grad_()
    *shape, L = SHAPE
    coords = (L - 1) * torch.rand(*shape, 1, device=device)
    weights = torch.ones(shape, device=device)
    (gaussian,) = simcc_gaussian(coords, (L,), (6.0,))
    (equal,) = simcc_equal(coords, (L,), SMOOTHING)
    ours, stock = SimCCKLLoss(reduction='stock'), KLDiscretLoss()
    return {
        'gaussian': {
            OURS: _step(ours, logits, gaussian, weights),
            STOCK: _step(stock, logits, gaussian, weights),
        },
        'equal': {
            OURS: _step(ours, logits, equal, weights),
            STOCK: _step(stock, logits, equal, weights),
        },
    }


def loss_comparisons(device: str = 'cpu') -> List[Comparison]:
    """The KL loss of logits (64, 17, 512) along one axis."""
    comparisons = []
    for method, steps in _steps(device).items():

        def check(steps=steps) -> None:
            torch.testing.assert_close(steps[OURS](), steps[STOCK]())

        comparisons.append(
            Comparison(
                'loss',
                method,
                'x'.join(map(str, SHAPE)),
                steps,
                dict.fromkeys(steps, 1),
                check=check,
            )
        )
    return comparisons


def add_peak_bytes(results: List[Result], device: str = 'cpu') -> None:
    """Add to the results of losses how much memory each pass takes."""
    steps = _steps(device)
    for result in results:
        if result.task == 'loss':
            result.extra['peak_bytes'] = {
                name: _peak_bytes(step, device) for name, step in steps[result.method].items()
            }


def _peak_bytes(function: Callable[[], Tensor], device: str) -> int:
    """The most memory that a call holds beyond what was held before it."""
    function()
    if device == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(profile_memory=True) as profiler:
        function()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak
