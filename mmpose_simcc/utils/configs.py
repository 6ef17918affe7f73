# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Looks up parts of a top-down config."""

from typing import Any, Iterator, List, Optional, Sequence

from mmengine.registry import Registry
from mmpose.registry import KEYPOINT_CODECS, MODELS

SIMCC_CODECS = ('SimCCCodec', 'SimCCLabel')


def type_name(cfg: dict) -> str:
    """``type`` without its scope or module; pure-Python configs hold a class."""
    type_ = cfg.get('type')
    return getattr(type_, '__name__', str(type_ or '').rpartition('.')[2])


def class_of(cfg: dict, registry: Registry) -> Optional[type]:
    """The class that a part of a config names; None if it is not registered, for example
    because its module is imported later."""
    type_ = cfg.get('type')
    if not isinstance(type_, str):
        return type_
    try:
        return registry.get(type_)
    except RuntimeError:  # a name with dots whose module is not found
        return None


def dicts(node: Any) -> Iterator[dict]:
    """Every dict in a part of a config."""
    if isinstance(node, dict):
        yield node
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for child in node:
        yield from dicts(child)


def dicts_of_type(node: Any, name: str) -> Iterator[dict]:
    """Every dict with this ``type`` anywhere in a config."""
    return (each for each in dicts(node) if type_name(each) == name)


def with_type_names(node):
    """A copy of a part of a config, perhaps a pure-Python one, with types by their registered
    names, so that it can be dumped and read again."""
    if isinstance(node, dict):
        node = {key: with_type_names(value) for key, value in node.items()}
        type_ = node.get('type')
        in_registry = isinstance(type_, type) and any(
            registry.get(type_.__name__) is type_ for registry in (MODELS, KEYPOINT_CODECS)
        )
        # pure-Python configs are dumped with the paths of classes
        if in_registry or str(type_).startswith(('mmpose.', 'mmpose_simcc.')):
            node['type'] = type_name(node)
        return node
    if isinstance(node, (list, tuple)):
        return type(node)(map(with_type_names, node))
    return node


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


def flip_test_of(model: dict) -> str:
    """The flip test of a model's config: ``'none'``, ``'stock'`` or ``'exact'``."""
    if not (model.get('test_cfg') or {}).get('flip_test'):
        return 'none'
    return 'exact' if type_name(model) == 'ExactFlipPoseEstimator' else 'stock'


def parts_in_use(cfg: dict) -> dict:
    """The parts of a config from which a runner builds pipelines: its data loaders and hooks. The
    top level may have pipelines that are not used."""
    used = {
        name: value
        for name, value in cfg.items()
        if name.endswith('_dataloader') or name == 'custom_hooks'
    }
    return used if list(dicts_of_type(used, 'TopdownAffine')) else cfg


def label_codecs(cfg: dict) -> List[dict]:
    """Every codec by which a pipeline in use makes labels."""
    codecs = []
    for target in dicts_of_type(parts_in_use(cfg), 'GenerateTarget'):
        encoder = target.get('encoder')
        codecs += encoder if isinstance(encoder, (list, tuple)) else [encoder]
    return [codec for codec in codecs if isinstance(codec, dict)]


def same(value: Any, other: Any) -> bool:
    """Whether two numbers or two sizes are equal; a list equals a tuple."""
    if isinstance(value, Sequence) and isinstance(other, Sequence):
        return tuple(value) == tuple(other)
    return value == other


def pose_head_cfg(cfg: dict) -> dict:
    """The config of the head that predicts keypoints, whose ``decoder`` is
    their codec: the model's head, or the one inside a ``VisPredictHead``.

    Args:
        cfg (Config | dict): Config of a model and all that is around it.

    Returns:
        dict: A part of the config; empty where there is no head.
    """
    head = cfg.get('model', {}).get('head') or {}
    return head.get('pose_cfg', head)


def check_published_frame(cfg: dict, meta: Optional[dict]) -> None:
    """Check that a config cuts pictures out as the code did that published the weights.

    Args:
        cfg (Config | dict): A top-down config.
        meta (dict, optional): ``meta`` of a checkpoint. Only ``convert_official.py`` writes how
            pictures were cut out; any other checkpoint is accepted.

    Raises:
        ValueError: They differ.
    """
    if not isinstance(meta, dict) or 'converted_from' not in meta or meta.get('use_udp') is None:
        return
    cfg = getattr(cfg, '_cfg_dict', cfg)
    for affine in dicts_of_type(parts_in_use(cfg), 'TopdownAffine'):
        use_udp = bool(affine.get('use_udp', False))
        if use_udp != meta['use_udp']:
            raise ValueError(
                f'published weights ({meta["converted_from"]}) of pictures that were cut out '
                f'{"with" if meta["use_udp"] else "without"} UDP need TopdownAffine(use_udp='
                f'{meta["use_udp"]}), but the config has use_udp={use_udp}, by which keypoints '
                'would lie up to 3 pixels off: see docs/weights.md'
            )
