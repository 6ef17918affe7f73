# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Change the representation of a top-down config in one place.

A stock config names its codec many times over: in the head's decoder, in the
target generator of every pipeline, and by its input size in every affine
transform. :func:`set_representation` rewrites them all. In a config file it
edits the base before MMEngine merges the file into it::

    _base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/'
              'td-hm_res50_8xb64-210e_coco-256x192.py']

    from mmpose_simcc.config import set_representation

    set_representation(
        _base_,
        codec=dict(type='SimCCCodec', simcc_split_ratio=2.0),
        head=dict(type='SimCCClassifierHead', channels_per_keypoint=28))

MMEngine executes text configs, so the import works there; ``_base_`` has to
come first, by which MMEngine tells a text config from a pure-Python one.
"""

import copy
from typing import Iterator, Optional, Tuple

from mmengine.config import Config
from mmpose.registry import KEYPOINT_CODECS

from .codecs import SimCCCodec
from .codecs.base import TensorCodec
from .utils.checks import check_choice, invalid

HEATMAP_HEAD_DECONVS = 3  # stock HeatmapHead's default


def _type_name(cfg: dict) -> str:
    """``type`` as text configs name it; pure-Python configs hold a class."""
    type_ = cfg.get('type')
    return getattr(type_, '__name__', type_)


def _dicts_of_type(node, type_name: str) -> Iterator[dict]:
    """Every dict with this ``type`` anywhere in a config."""
    if isinstance(node, dict):
        if _type_name(node) == type_name:
            yield node
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for child in node:
        yield from _dicts_of_type(child, type_name)


def _complete(codec: dict, base: dict) -> dict:
    """Fill a codec from the base config's where both mean the same."""
    codec = copy.deepcopy(dict(codec))
    codec.setdefault('input_size', tuple(base['input_size']))
    is_heatmap, was_heatmap = (
        name not in ('SimCCCodec', 'SimCCLabel') for name in (_type_name(codec), _type_name(base))
    )
    if is_heatmap == was_heatmap and 'sigma' in base:
        codec.setdefault('sigma', base['sigma'])
    if is_heatmap and was_heatmap:
        codec.setdefault(
            'heatmap_size',
            tuple(
                cells * size // base_size
                for cells, size, base_size in zip(
                    base['heatmap_size'], codec['input_size'], base['input_size']
                )
            ),
        )
    elif not is_heatmap and 'simcc_split_ratio' in base:
        codec.setdefault('simcc_split_ratio', base['simcc_split_ratio'])
    return codec


def _featuremap_size(
    input_size: Tuple[int, int], base_head: dict, base_codec: dict
) -> Tuple[int, int]:
    """Size of the feature map that enters the head, for another input."""
    size = base_head.get('in_featuremap_size')
    if size is None:
        deconvs = base_head.get('deconv_out_channels', (None,) * HEATMAP_HEAD_DECONVS)
        size = [cells // 2 ** len(deconvs or ()) for cells in base_codec['heatmap_size']]
    strides = [pixels // cells for pixels, cells in zip(base_codec['input_size'], size)]
    if any(pixels % stride for pixels, stride in zip(input_size, strides)):
        raise invalid(
            'codec.input_size', input_size, f'a multiple of the stride of the features, {strides}'
        )
    return tuple(pixels // stride for pixels, stride in zip(input_size, strides))


def set_representation(
    cfg: dict, codec: dict, head: Optional[dict] = None, targets: str = 'worker'
) -> None:
    """Change codec, and head where needed, of a top-down config, in place.

    Rewritten are the head's decoder, the encoder of every
    ``GenerateTarget``, the input size of every ``TopdownAffine`` (which loses
    ``use_udp``: the codecs of this package place cell i at pixel i * stride),
    and the flip test's arguments.

    Args:
        cfg (Config | dict): A top-down config, or ``_base_`` in a config
            file.
        codec (dict): Config of a codec of this package. ``input_size`` and,
            among codecs of a kind, ``heatmap_size``, ``sigma`` and
            ``simcc_split_ratio`` are taken over from the base config when
            they are not given; the heatmap follows the input size.
        head (dict, optional): Config of a head, without ``decoder``.
            ``in_channels``, ``out_channels`` and, for
            :class:`SimCCClassifierHead`, ``in_featuremap_size`` are taken
            over or derived when they are not given. By default the head
            stays and gets the new decoder.
        targets (str): Where dense labels are made: ``'worker'`` in the data
            workers, as stock, or ``'device'`` for the whole batch on the
            training device (:class:`TargetDataPreprocessor`), so that workers
            send only coordinates. Defaults to ``'worker'``.

    Raises:
        ValueError: The config is not that of a top-down model with one
            codec, or codec and head do not fit.
    """
    check_choice('targets', targets, ('worker', 'device'))
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    base_head = cfg.get('model', {}).get('head')
    base_codec = (base_head or {}).get('decoder')
    affines = list(_dicts_of_type(cfg, 'TopdownAffine'))
    if not isinstance(base_codec, dict) or 'input_size' not in base_codec or not affines:
        raise invalid(
            'cfg',
            _type_name(cfg.get('model', {})),
            'the config of a top-down model whose head has one codec as its `decoder`',
        )
    codec = _complete(codec, base_codec)
    built = KEYPOINT_CODECS.build(codec)
    if not isinstance(built, TensorCodec):
        raise invalid('codec', _type_name(codec), 'a codec of mmpose_simcc')

    base_head = copy.deepcopy(dict(base_head))
    base_head.pop('_scope_', None)
    is_simcc = isinstance(built, SimCCCodec)
    was_simcc = 'in_featuremap_size' in base_head
    if head is None:
        if is_simcc != was_simcc:
            raise invalid(
                'head', head, f'given: {_type_name(base_head)} does not fit {_type_name(codec)}'
            )
        new_head = base_head
        if was_simcc:
            new_head['in_featuremap_size'] = _featuremap_size(
                codec['input_size'], base_head, base_codec
            )
            for name in ('input_size', 'simcc_split_ratio'):
                new_head[name] = getattr(built, name)
    else:
        new_head = dict(
            in_channels=base_head['in_channels'], out_channels=base_head['out_channels']
        )
        new_head.update(copy.deepcopy(dict(head)))
        if _type_name(new_head) == 'SimCCClassifierHead':
            new_head.setdefault(
                'in_featuremap_size', _featuremap_size(codec['input_size'], base_head, base_codec)
            )
    new_head['decoder'] = copy.deepcopy(codec)

    cfg['codec'] = copy.deepcopy(codec)
    cfg['model']['head'] = new_head
    for target in _dicts_of_type(cfg, 'GenerateTarget'):
        if not isinstance(target.get('encoder'), dict):
            raise invalid('cfg', target, 'a config whose GenerateTarget has one `encoder`')
        target['encoder'] = copy.deepcopy(
            codec if targets == 'worker' else dict(type='CoordinateCodec')
        )
    if targets == 'device':
        cfg['model'].setdefault('data_preprocessor', {}).update(
            type='TargetDataPreprocessor', codec=copy.deepcopy(codec)
        )
    for affine in affines:
        affine['input_size'] = codec['input_size']
        affine.pop('use_udp', None)
    test_cfg = cfg['model'].setdefault('test_cfg', {})
    if is_simcc:
        test_cfg.pop('flip_mode', None)
        test_cfg.pop('shift_heatmap', None)
    elif test_cfg.get('flip_test'):
        test_cfg.update(flip_mode='heatmap', shift_heatmap=True)
    imports = list(cfg.get('custom_imports', {}).get('imports', []))
    if 'mmpose_simcc' not in imports:
        cfg['custom_imports'] = dict(imports=imports + ['mmpose_simcc'], allow_failed_imports=False)
