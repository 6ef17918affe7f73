# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The parts of a config that several functions look up."""

from typing import Iterator

SIMCC_CODECS = ('SimCCCodec', 'SimCCLabel')


def type_name(cfg: dict) -> str:
    """``type`` as text configs name it; pure-Python configs hold a class."""
    type_ = cfg.get('type')
    return getattr(type_, '__name__', type_)


def dicts_of_type(node, name: str) -> Iterator[dict]:
    """Every dict with this ``type`` anywhere in a config."""
    if isinstance(node, dict):
        if type_name(node) == name:
            yield node
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for child in node:
        yield from dicts_of_type(child, name)


def is_simcc_codec(codec: dict) -> bool:
    return type_name(codec) in SIMCC_CODECS


def has_offset_maps(codec: dict) -> bool:
    """Whether a keypoint has three maps: its heatmap and two of offsets."""
    return type_name(codec) == 'UDPHeatmap' and codec.get('heatmap_type') == 'combined'


def num_keypoints(head: dict) -> int:
    """Number of keypoints that a head predicts."""
    if 'num_joints' in head:
        return head['num_joints']
    return head['out_channels'] // (3 if has_offset_maps(head.get('decoder') or {}) else 1)


def parts_in_use(cfg: dict) -> dict:
    """The parts of a config that a runner builds pipelines from: its data loaders and hooks. The
    top level of a config may name other pipelines, which none of them uses."""
    used = {
        name: value
        for name, value in cfg.items()
        if name.endswith('_dataloader') or name == 'custom_hooks'
    }
    return used if list(dicts_of_type(used, 'TopdownAffine')) else cfg
