# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Where a heatmap cell or a bin lies in the picture, as codecs and as pipelines have it."""

from typing import Optional

from mmengine.config import Config

from ..utils.configs import (
    dicts_of_type,
    is_simcc_codec,
    label_codecs,
    parts_in_use,
    pose_head_cfg,
    type_name,
)

# Whether a stock codec is for pictures that are cut out with UDP
STOCK_CODECS = dict(
    MSRAHeatmap=False,
    MegviiHeatmap=False,
    UDPHeatmap=True,
    IntegralRegressionLabel=False,
    SimCCLabel=False,
)


def codec_frame(codec: dict) -> Optional[bool]:
    """``use_udp`` of a codec; None for a codec of regression."""
    if not is_simcc_codec(codec) and 'heatmap_size' not in codec:
        return None
    return STOCK_CODECS.get(type_name(codec), codec.get('use_udp', False))


def pipeline_frame(cfg: dict) -> Optional[bool]:
    """``use_udp`` of every ``TopdownAffine``; None without any.

    Raises:
        ValueError: They differ.
    """
    frames = {
        affine.get('use_udp', False) for affine in dicts_of_type(parts_in_use(cfg), 'TopdownAffine')
    }
    if len(frames) > 1:
        raise ValueError(
            'the pipelines contradict each other: one has TopdownAffine(use_udp=True), '
            'another TopdownAffine(use_udp=False)'
        )
    return frames.pop() if frames else None


def frame_conflict(codec: dict, place: str, use_udp: bool) -> str:
    """The message about a codec and the ``use_udp`` of a pipeline that contradict each other."""
    own = codec_frame(codec)
    name = type_name(codec)
    if name not in STOCK_CODECS:
        name += f'(use_udp={own})'
    if is_simcc_codec(codec):
        place_of = f'bin b lies at the part b / k / {"(w-1)" if own else "w"} of the box'
    else:
        place_of = f'cell i of the heatmaps lies at pixel {"i (w-1)/(W-1)" if own else "i w/W"}'
    return (
        f'{place} {name} and TopdownAffine(use_udp={use_udp}), which contradict each other: '
        f'{place_of}, and the pictures are cut out {"with" if use_udp else "without"} UDP'
    )


def check_frames(cfg: dict) -> bool:
    """Check that codecs and pipelines agree on where a cell of a heatmap, or
    a bin, lies in the picture. Otherwise keypoints are up to 4 pixels off.

    Args:
        cfg (Config | dict): A top-down config.

    Returns:
        bool: ``use_udp`` of its pipelines, which a codec for this model needs
        as well.

    Raises:
        ValueError: A codec or a pipeline contradicts a pipeline; the message
            names both.
    """
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    use_udp = bool(pipeline_frame(cfg))
    codecs = [('the config has the decoder', pose_head_cfg(cfg).get('decoder'))]
    codecs += [('the config has the encoder', encoder) for encoder in label_codecs(cfg)]
    for place, codec in codecs:
        if isinstance(codec, dict) and codec_frame(codec) not in (None, use_udp):
            raise ValueError(frame_conflict(codec, place, use_udp))
    return use_udp
