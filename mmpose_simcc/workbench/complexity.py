# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What a top-down model costs: parameters, multiply-adds, activations, time.

Two counts of multiply-adds are in use, and they are far apart:

* The **paper count** is what SimCC, HRNet and SimpleBaseline print as GFLOPs: multiply-adds of
  convolution and linear layers, / 2**30, where a transposed convolution costs its weights times its
  *output* positions. Products between activations (attention) are not in it.
* The **true count** is every multiply-add that is done, / 1e9: a transposed convolution costs its
  weights times its *input* positions, a quarter of the above at stride 2, and products between
  activations are in it.

Normalisation, activation functions and other element-wise work are in neither.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmpose.models import TopdownPoseEstimator
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ..utils.checks import check_choice, check_size
from ..utils.inference import build_model, load_config, model_input_size, one_line
from .timing import time_in_turns

aten = torch.ops.aten

FORMATS = ('table', 'markdown', 'json')
Record = Dict[str, object]

LEGEND = """\
GFLOPs (paper): multiply-adds of convolution and linear layers / 2^30, a transposed convolution
taken as weights x output positions, no attention products: the count of the SimCC, HRNet and
SimpleBaseline papers.
GFLOPs (true): all multiply-adds / 1e9, transposed convolutions at their real cost, with attention.
attn. (true): the part of it that multiplies activations with each other.
act.: activations, output elements of convolution and linear layers."""


@dataclass(frozen=True)
class Complexity:
    """What one forward pass of one image costs.

    Attributes:
        params (int): Parameters; shared ones once.
        layer_macs_by_output (int): Multiply-adds of convolution and linear layers, transposed
            convolutions by their output positions.
        macs (int): All multiply-adds, transposed convolutions by their input positions.
        product_macs (int): Those of ``macs`` that multiply activations with each other: attention.
        activations (int): Output elements of convolution and linear layers (as in "Designing
            Network Design Spaces", Radosavovic et al., CVPR 2020).
    """

    params: int
    layer_macs_by_output: int
    macs: int
    product_macs: int
    activations: int

    @property
    def paper_gflops(self) -> float:
        """The paper count, see the top of this module."""
        return self.layer_macs_by_output / 2**30

    @property
    def gflops(self) -> float:
        """The true count, see the top of this module."""
        return self.macs / 1e9

    @property
    def product_gflops(self) -> float:
        """The part of :attr:`gflops` that attention products have."""
        return self.product_macs / 1e9


class LayerCounter(TorchDispatchMode):
    """Counts what convolution and linear layers do while it is active.

    It watches operators and not modules, so a layer counts as often as it runs, also as a function.
    A linear layer is a matrix product one of whose factors is a parameter, or a part of one.

    Args:
        model (nn.Module): Its parameters are the weights.

    Attributes:
        macs (int): Multiply-adds.
        macs_by_output (int): The same, but a transposed convolution counts as its weights times
            its output positions.
        activations (int): Output elements.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.macs = self.macs_by_output = self.activations = 0
        self._weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        operator = func._overloadpacket
        if operator is aten.convolution:
            image, weight, transposed = args[0], args[1], args[6]
            by_input, by_output = (
                weight.numel() * features.numel() // features.shape[1] for features in (image, out)
            )
            self._add(out, by_input if transposed else by_output, by_output)
        elif operator in (aten.mm, aten.bmm, aten.addmm, aten.baddbmm):
            left, right = args[-2:]
            # views (transposed, expanded, a slice) share the parameter's memory
            if {f.untyped_storage().data_ptr() for f in (left, right)} & self._weights:
                macs = out.numel() * left.shape[-1]
                self._add(out, macs, macs)
        return out

    def _add(self, out: Tensor, macs: int, macs_by_output: int) -> None:
        self.macs += macs
        self.macs_by_output += macs_by_output
        self.activations += out.numel()


def _attention_flops(query, key, value, *args, **kwargs) -> int:
    """Two products a head; shapes (B, heads, N, D)."""
    return 2 * prod(query) * key[-2] + 2 * prod(query[:-1]) * prod(value[-2:])


# torch's counter knows every attention kernel but that of CPUs, which torch >= 2.2 has
_KERNEL = '_scaled_dot_product_flash_attention_for_cpu'
OTHER_FLOPS = {getattr(aten, _KERNEL): _attention_flops} if hasattr(aten, _KERNEL) else {}


@torch.no_grad()
def count_complexity(model: TopdownPoseEstimator, input_size: Tuple[int, int]) -> Complexity:
    """Count what one forward pass (backbone, neck, head; no decoding) costs, by running it.

    Operators that torch's own counter (:class:`torch.utils.flop_counter.FlopCounterMode`) does not
    know add nothing: deformable convolution, and the fused inference kernel of
    ``nn.MultiheadAttention(batch_first=True)``.

    Args:
        model (TopdownPoseEstimator): The model, in evaluation mode, on the CPU.
        input_size (tuple): Image size (w, h) in pixels.

    Returns:
        Complexity: The counts.
    """
    width, height = check_size('input_size', input_size)
    everything = FlopCounterMode(display=False, custom_mapping=OTHER_FLOPS)
    with everything, LayerCounter(model) as layers:
        model(torch.zeros(1, 3, height, width), None)
    macs = everything.get_total_flops() // 2  # of a multiply-add torch counts both
    return Complexity(
        params=sum(weight.numel() for weight in model.parameters()),
        layer_macs_by_output=layers.macs_by_output,
        macs=macs,
        product_macs=macs - layers.macs,
        activations=layers.activations,
    )


def time_forward(
    model: TopdownPoseEstimator,
    input_size: Tuple[int, int],
    device: Union[str, torch.device] = 'cpu',
    seconds: float = 2.0,
) -> np.ndarray:
    """Time the forward pass (backbone, neck, head) of one image.

    Args:
        model (TopdownPoseEstimator): The model, in evaluation mode; it is moved to the device.
        input_size (tuple): Image size (w, h) in pixels.
        device (str | torch.device): Where to run.
        seconds (float): How long it is repeated after a warm-up, at least five times.

    Returns:
        np.ndarray: Seconds of each pass.
    """
    width, height = check_size('input_size', input_size)
    image = torch.zeros(1, 3, height, width, device=device)
    model.to(device)
    with torch.inference_mode():
        return time_in_turns(
            {'forward': lambda: model(image, None)}, rounds=1000, max_seconds=seconds
        )['forward']


def measure_size(
    config: str, device: Optional[str] = None, options: Optional[dict] = None
) -> Record:
    """Size and cost of a config's model at its own input size.

    Args:
        config (str): See :func:`load_config`.
        device (str, optional): Device to time the forward pass on. Not timed by default.
        options (dict, optional): Changes of the config, by names such as
            ``'model.head.channels_per_keypoint'``.

    Returns:
        dict: ``config``; ``input_size`` (w, h) in pixels; ``params``, ``paper_gflops``, ``gflops``,
        ``product_gflops`` and ``activations`` as in :class:`Complexity`. With ``device`` also
        ``device``, ``num_threads``, ``time_ms`` (median), ``time_iqr_ms`` and ``num_runs``.

    Raises:
        ValueError: The config cannot be used; the message names it.
    """
    cfg = load_config(config, options)
    try:
        model = build_model(cfg)
        input_size = model_input_size(model)
        cost = count_complexity(model, input_size)
    except Exception as error:  # any module may be named by a config
        raise ValueError(f'config {config}: its model does not run: {one_line(error)}') from error
    names = ('params', 'paper_gflops', 'gflops', 'product_gflops', 'activations')
    record = dict(config=config, input_size=input_size, **{n: getattr(cost, n) for n in names})
    if device is not None:
        times = time_forward(model, input_size, device)
        low, median, high = np.percentile(times, (25, 50, 75))
        record.update(
            device=str(device),
            num_threads=torch.get_num_threads(),
            time_ms=median * 1e3,
            time_iqr_ms=(high - low) * 1e3,
            num_runs=len(times),
        )
    return record


def size_table(records: Sequence[Record], fmt: str = 'table') -> str:
    """Model sizes as text.

    Args:
        records (list[dict]): From :func:`measure_size`.
        fmt (str): ``'table'``, ``'markdown'`` or ``'json'``.

    Returns:
        str: The table with a legend, or JSON.
    """
    check_choice('fmt', fmt, FORMATS)
    if fmt == 'json':
        return json.dumps(list(records), indent=2)
    rows = [
        {
            'config': Path(str(record['config'])).stem,
            'input': '{1}x{0}'.format(*record['input_size']),  # height x width, as papers have it
            'params\n(M)': f'{record["params"] / 1e6:.3f}',
            'GFLOPs\n(paper)': f'{record["paper_gflops"]:.2f}',
            'GFLOPs\n(true)': f'{record["gflops"]:.2f}',
            'attn.\n(true)': f'{record["product_gflops"]:.2f}',
            'act.\n(M)': f'{record["activations"] / 1e6:.2f}',
        }
        for record in records
    ]
    legend = LEGEND
    if records and 'time_ms' in records[0]:
        for row, record in zip(rows, records):
            row['forward\n(ms)'] = f'{record["time_ms"]:.1f} ({record["time_iqr_ms"]:.1f})'
        legend += (
            '\nforward: one image, without decoding; median (interquartile range) of at least '
            f'{min(record["num_runs"] for record in records)} runs on {records[0]["device"]}, '
            f'{records[0]["num_threads"]} CPU threads.'
        )
    if fmt == 'markdown':
        rows = [{name.replace('\n', ' '): cell for name, cell in row.items()} for row in rows]
    align = ['left'] + ['right'] * (len(rows[0]) - 1) if rows else None
    table = tabulate(
        rows,
        headers='keys',
        tablefmt='pipe' if fmt == 'markdown' else 'simple',
        disable_numparse=True,
        colalign=align,
    )
    return f'{table}\n\n{legend}'
