# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The decoders that apply to a trained model."""

import inspect
from typing import Dict, List, Optional, Sequence, Union

from mmpose.codecs import MSRAHeatmap
from mmpose.registry import KEYPOINT_CODECS

from ...codecs import SimCCCodec
from ...codecs.heatmap import BaseHeatmapCodec
from .errors import CompareError
from .runs import Run

HEATMAP_DECODERS = dict(
    argmax=dict(type='HeatmapCodec', refine='none'),
    quarter=dict(type='HeatmapCodec', refine='quarter'),
    second_max=dict(type='HeatmapCodec', refine='second_max'),
    dark=dict(type='DARKCodec'),
    daec=dict(type='DAECCodec'),
)
SIMCC_DECODERS = dict(
    argmax=dict(type='SimCCCodec', refine='none'),
    dark=dict(type='SimCCCodec', refine='dark'),
    daec=dict(type='SimCCCodec', refine='daec'),
)
DEFAULT = (*HEATMAP_DECODERS,)
DEFAULT_SIMCC = ('argmax',)

Decoder = Union[str, dict]


def decoder_names() -> List[str]:
    return list(dict.fromkeys((*HEATMAP_DECODERS, *SIMCC_DECODERS)))


def decoders_of(run: Run, wanted: Optional[Sequence[Decoder]] = None) -> Dict[str, dict]:
    """Codecs that decode a run's network outputs.

    Args:
        run (Run): The run.
        wanted (list[str | dict], optional): Decoders by name, or codecs with
            a ``name`` and the arguments in which they differ from the run's
            own; those for the other representation are left out. By default
            all decoders of a heatmap and argmax for SimCC.

    Returns:
        dict: Names and codec configs; ``own`` is the run's own codec, and the
        only one of a codec that is not known here.

    Raises:
        CompareError: A name is unknown, or an argument is out of its range.
    """
    codec = run.build_codec()
    if isinstance(codec, SimCCCodec):
        known, default = SIMCC_DECODERS, DEFAULT_SIMCC
    elif isinstance(codec, (BaseHeatmapCodec, MSRAHeatmap)):
        known, default = HEATMAP_DECODERS, DEFAULT
    else:
        return dict(own=dict(run.cfg.model.head.decoder))
    chosen = {}
    for decoder in default if wanted is None else wanted:
        if isinstance(decoder, str):
            if decoder not in decoder_names():
                raise CompareError(
                    f'there is no decoder {decoder!r}; there are {", ".join(decoder_names())}'
                )
            if decoder in known:
                chosen[decoder] = _complete(run, codec, known[decoder])
        else:
            change = dict(decoder)
            name = change.pop('name')
            if (change['type'] == 'SimCCCodec') == isinstance(codec, SimCCCodec):
                chosen[name] = _complete(run, codec, change)
    if not chosen:
        raise CompareError(
            f'{run.name}: none of the decoders fits {run.cfg.model.head.decoder.type}'
        )
    for name, config in chosen.items():
        try:
            KEYPOINT_CODECS.build(config)
        except (ValueError, TypeError) as error:
            raise CompareError(f'{run.name}, decoder {name}: {error}') from error
    return chosen


def _complete(run: Run, codec, change: dict) -> dict:
    """A decoder with the geometry of the run's own; one of the same type
    keeps every argument that it does not change."""
    own = dict(run.cfg.model.head.decoder)
    own.pop('_scope_', None)
    if change['type'] != own['type']:
        names = inspect.signature(KEYPOINT_CODECS.get(change['type'])).parameters
        own = {
            name: getattr(codec, name)
            for name in ('input_size', 'heatmap_size', 'sigma', 'unbiased', 'blur_kernel_size')
            if name in names
        }
    return {**own, **change}
