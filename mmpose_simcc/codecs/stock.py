# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Stock codecs as codecs of this package."""

from typing import Optional

from mmpose.codecs import MSRAHeatmap, SimCCLabel, UDPHeatmap
from mmpose.codecs.base import BaseKeypointCodec
from torch import nn

from ..utils.checks import invalid
from .base import TensorCodec
from .dark import DARKCodec
from .heatmap import HeatmapCodec
from .simcc import SimCCCodec


def equivalent_codec(codec: BaseKeypointCodec, loss: Optional[nn.Module] = None) -> TensorCodec:
    """The codec of this package that reads the outputs of a model trained with a stock one.

    Keypoints are those of stock's decoder, with three exceptions: ``UDPHeatmap`` takes a Newton
    step of its own, ``use_dark`` refines logits where :class:`SimCCCodec` refines probabilities,
    and DARK's step has no bound in stock, see :class:`DARKCodec`. SimCC scores are in [0, 1],
    where stock gives raw outputs.

    Args:
        codec (BaseKeypointCodec): ``MSRAHeatmap``, ``UDPHeatmap`` or ``SimCCLabel``, or a codec
            of this package, which is returned as it is.
        loss (nn.Module, optional): The loss of a SimCC head, whose ``beta``, ``label_softmax``
            and ``label_beta`` say what its outputs mean.

    Returns:
        TensorCodec: The codec.

    Raises:
        ValueError: No codec of this package reads these outputs.
    """
    if isinstance(codec, TensorCodec):
        return codec
    # MMPose's codec of integral regression has none
    input_size = tuple(map(int, getattr(codec, 'input_size', ())))
    if isinstance(codec, MSRAHeatmap):
        heatmap_size = tuple(map(int, codec.heatmap_size))
        if codec.unbiased:
            return DARKCodec(
                input_size, heatmap_size, codec.sigma, blur_kernel_size=codec.blur_kernel_size
            )
        return HeatmapCodec(input_size, heatmap_size, codec.sigma)
    if isinstance(codec, UDPHeatmap) and codec.heatmap_type == 'gaussian':
        return DARKCodec(
            input_size,
            tuple(map(int, codec.heatmap_size)),
            codec.sigma,
            blur_kernel_size=codec.blur_kernel_size,
            use_udp=True,
        )
    if isinstance(codec, SimCCLabel):
        gaussian = codec.smoothing_type == 'gaussian'
        beta = float(getattr(loss, 'beta', 1.0))
        return SimCCCodec(
            input_size,
            codec.simcc_split_ratio,
            label_smoothing='gaussian' if gaussian else 'equal',
            sigma=tuple(map(float, codec.sigma)),
            smoothing=codec.label_smooth_weight,
            refine='dark' if codec.use_dark else 'none',
            normalize=codec.normalize or not gaussian,
            beta=beta,
            label_softmax=bool(getattr(loss, 'label_softmax', False)),
            # MMPose < 1.3 has one factor for both
            label_beta=float(getattr(loss, 'label_beta', beta)),
        )
    raise invalid(
        'decoder',
        type(codec).__name__,
        'a codec of mmpose_simcc, or stock MSRAHeatmap, SimCCLabel or UDPHeatmap with '
        "heatmap_type='gaussian'",
    )
