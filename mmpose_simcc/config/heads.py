# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Which heads have the outputs that a codec decodes."""

from mmpose.models.heads import (
    CPMHead,
    HeatmapHead,
    IntegralRegressionHead,
    MSPNHead,
    RegressionHead,
    RLEHead,
    RTMCCHead,
    RTMWHead,
    SimCCHead,
)
from mmpose.registry import MODELS

from ..models import Heatmap1DHead, SimCCClassifierHead, TokenHeatmapHead
from ..utils.checks import invalid
from ..utils.configs import class_of, is_simcc_codec, same, type_name

SIMCC_HEADS = (SimCCHead, RTMCCHead, RTMWHead, SimCCClassifierHead, Heatmap1DHead)
HEATMAP_HEADS = (HeatmapHead, CPMHead, MSPNHead, TokenHeatmapHead)
REGRESSION_HEADS = (RegressionHead, RLEHead, IntegralRegressionHead)
# Arguments that a head shares with its codecs, and the codecs' defaults
SHARED = dict(input_size=None, heatmap_size=None, simcc_split_ratio=2.0)


def check_head_fits(head: dict, codec: dict) -> None:
    """Check that a head has the outputs that a codec decodes.

    Args:
        head (dict): Config of a head. Types that this package does not know are accepted.
        codec (dict): Config of a codec.

    Raises:
        ValueError: Its outputs are of another kind or size.
    """
    if is_simcc_codec(codec):
        fitting, others = SIMCC_HEADS, HEATMAP_HEADS + REGRESSION_HEADS
    elif 'heatmap_size' in codec and type_name(codec) != 'IntegralRegressionLabel':
        fitting, others = HEATMAP_HEADS, SIMCC_HEADS + REGRESSION_HEADS
    else:
        fitting, others = REGRESSION_HEADS, SIMCC_HEADS
    head_class = class_of(head, MODELS)
    if head_class is not None and issubclass(head_class, others):
        names = ', '.join(each.__name__ for each in fitting)
        raise invalid('head.type', type_name(head), f'one for {type_name(codec)} ({names})')
    for name, default in SHARED.items():
        value, wanted = head.get(name), codec.get(name, default)
        if None not in (value, wanted) and not same(value, wanted):
            raise invalid(f'head.{name}', value, f"the decoder's, {wanted}")
