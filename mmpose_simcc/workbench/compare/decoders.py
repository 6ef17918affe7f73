# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The decoders that apply to a trained model."""

import inspect
from itertools import product
from typing import Dict, List, Optional, Sequence, Union

from mmpose.registry import KEYPOINT_CODECS

from ...codecs import SimCCCodec
from ...codecs.base import TensorCodec
from ...codecs.calibration import OUTPUT_ARGUMENTS
from ...config import check_calibration
from .errors import CompareError
from .runs import Run

HEATMAP_DECODERS = dict(
    argmax=dict(type='HeatmapCodec', refine='none'),
    quarter=dict(type='HeatmapCodec', refine='quarter'),
    second_max=dict(type='HeatmapCodec', refine='second_max'),
    dark=dict(type='DARKCodec'),
    daec=dict(type='DAECCodec'),
    # a learned factor holds for the border of the codec that it was learned with
    daec_symmetric=dict(type='DAECCodec', border='symmetric', delta='empirical'),
)
SIMCC_DECODERS = dict(
    argmax=dict(type='SimCCCodec', refine='none'),
    dark=dict(type='SimCCCodec', refine='dark'),
    daec=dict(type='SimCCCodec', refine='daec'),
)
# MMPose's own codec, decoding as the config says: what ours are compared with.
STOCK = 'stock'
DEFAULT = (STOCK, *HEATMAP_DECODERS)
DEFAULT_SIMCC = (STOCK, 'argmax')

CALIBRATION = 'calibration'

Decoder = Union[str, dict]


def decoder_names() -> List[str]:
    return list(dict.fromkeys((STOCK, *HEATMAP_DECODERS, *SIMCC_DECODERS)))


def expand_decoders(decoders: Sequence[Decoder]) -> List[Decoder]:
    """Decoders of which those whose ``each`` names values of arguments are written out, with the
    arguments in their names. What tells them apart in a table is their ``factors`` then."""
    expanded = []
    for decoder in decoders:
        if isinstance(decoder, str):
            expanded.append(decoder)
            continue
        each = decoder.get('each', {})
        for values in product(*each.values()):
            own = dict({k: v for k, v in decoder.items() if k != 'each'}, **dict(zip(each, values)))
            own['name'] = ' '.join([decoder['name'], *(f'{k}={own[k]}' for k in each)])
            own['factors'] = {**decoder.get('factors', {}), **dict(zip(each, values))}
            expanded.append(own)
    return expanded


def decoders_of(run: Run, wanted: Optional[Sequence[Decoder]] = None) -> Dict[str, dict]:
    """Codecs that decode a run's network outputs.

    Args:
        run (Run): The run.
        wanted (list[str | dict], optional): Decoders by name, or codecs with
            a ``name`` and the arguments in which they differ from the run's
            own, see :func:`expand_decoders`; those for the other
            representation are left out. ``stock``
            is the run's own codec where it is not of this package. By
            default ``stock`` and all decoders for heatmaps, ``stock`` and argmax for SimCC.

    Returns:
        dict: Names and codec configs. A decoder with a ``calibration`` comes twice, without it
        and as ``'NAME, calibrated'``. If the run's own codec has one, it comes last, as
        ``'calibrated'``. Outputs that no codec of this package reads (regression, Megvii's
        heatmaps, UDP's offset maps) have ``stock`` alone.

    Raises:
        CompareError: A name is unknown, an argument is out of its range, or a calibration is for
            another flip test.
    """
    codec = run.equivalent_codec()
    stock = dict(run.head.decoder)
    if codec is None:
        return {STOCK: stock}
    is_simcc = isinstance(codec, SimCCCodec)
    known, default = (SIMCC_DECODERS, DEFAULT_SIMCC) if is_simcc else (HEATMAP_DECODERS, DEFAULT)
    if not isinstance(run.build_codec(), TensorCodec):
        known = {STOCK: stock, **known}
    found = {}
    for decoder in default if wanted is None else expand_decoders(wanted):
        if isinstance(decoder, str):
            if decoder not in decoder_names():
                raise CompareError(
                    f'there is no decoder {decoder!r}; there are {", ".join(decoder_names())}'
                )
            if decoder not in known:
                continue
            name, config = decoder, known[decoder]
        else:
            if (decoder['type'] == 'SimCCCodec') != is_simcc:
                continue
            name = decoder['name']
            config = {k: v for k, v in decoder.items() if k not in ('name', 'factors')}
        if config is not stock:
            config = _complete(run, codec, config)
        found[name] = {key: value for key, value in config.items() if key != CALIBRATION}
        if config.get(CALIBRATION) is not None:
            found[f'{name}, calibrated'] = config
    if not found:
        raise CompareError(f'{run.name}: none of the decoders fits {run.head.decoder.type}')
    if stock.get(CALIBRATION) is not None:
        found['calibrated'] = {key: value for key, value in stock.items() if key != '_scope_'}
    for name, config in found.items():
        try:
            KEYPOINT_CODECS.build(config)
            check_calibration(run.cfg, config)
        except (ValueError, TypeError) as error:
            raise CompareError(f'{run.name}, decoder {name}: {error}') from error
    return found


def calibrated_on(decoder: dict) -> Optional[str]:
    """The pictures on which a codec was calibrated; None if it was not."""
    calibration = getattr(KEYPOINT_CODECS.build(decoder), CALIBRATION, None)
    return calibration and calibration.calibrated_on


def _complete(run: Run, codec, change: dict) -> dict:
    """A decoder for the outputs of the run's own codec. If it is of the same type, it keeps all
    arguments that are not changed, except the calibration, which brings a decoder of its own."""
    own = {k: v for k, v in run.head.decoder.items() if k not in ('_scope_', CALIBRATION)}
    if change['type'] != own['type']:
        parameters = inspect.signature(KEYPOINT_CODECS.get(change['type'])).parameters
        own = {name: getattr(codec, name) for name in OUTPUT_ARGUMENTS if name in parameters}
    return {**own, **change}
