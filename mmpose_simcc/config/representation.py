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
Pure-Python configs are only parsed, and cannot call a function: read such a
config in a script, call :func:`set_representation` there and dump the result,
which is a text config.
"""

import copy
import inspect
from typing import List, Optional, Tuple

from mmengine.config import Config
from mmpose.registry import KEYPOINT_CODECS, MODELS

from ..codecs import SimCCCodec
from ..codecs.base import TensorCodec
from ..utils.checks import invalid
from ..utils.configs import (
    class_of,
    dicts_of_type,
    has_offset_maps,
    is_simcc_codec,
    num_keypoints,
    pose_head_cfg,
    type_name,
    with_type_names,
)
from .frames import codec_frame, frame_conflict, pipeline_frame
from .heads import check_head_fits
from .sizes import DECONVS, featuremap_size, heatmap_size, is_pooling, num_deconvs

LOSS_SETTINGS = ('beta', 'label_softmax', 'label_beta')  # and SimCCCodec's


def set_representation(cfg: dict, codec: dict, head: Optional[dict] = None) -> None:
    """Change codec, and head where needed, of a top-down config, in place.

    Rewritten are the head's decoder, the encoder of every
    ``GenerateTarget``, input size and ``use_udp`` of every
    ``TopdownAffine``, and the flip test, which is
    :class:`ExactFlipPoseEstimator`'s. A pooling neck goes. In a
    ``VisPredictHead`` the head of the keypoints is changed.

    Args:
        cfg (Config | dict): A top-down config, or ``_base_`` in a config
            file. An error leaves it unchanged.
        codec (dict): Config of a codec of this package. Taken over from the
            base config when not given are ``input_size``; ``use_udp`` (True
            for ``TopdownAffine(use_udp=True)``); among heatmaps
            ``heatmap_size`` and ``sigma``; among SimCC codecs
            ``simcc_split_ratio``, ``sigma``, the smoothing and, with the
            head, ``normalize``. The heatmap follows the input size, or the
            features and the deconvolutions of a new head.
            ``SimCCCodec`` gets ``beta``, ``label_softmax`` and ``label_beta``
            from the loss of its head.
        head (dict, optional): Config of a head, without ``decoder``, and with
            a loss of its own. ``in_channels``, ``out_channels`` and, for
            :class:`SimCCClassifierHead`, ``in_featuremap_size`` are taken
            over or derived when they are not given. By default the head
            stays, with its loss, and gets the new decoder.

    Raises:
        ValueError: The config is not that of a top-down model with one
            codec, codec and head do not fit, or something has to be given.
    """
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    base_head, base_codec = _base_parts(cfg)
    generate_targets = _single_targets(cfg)
    imports = _imports(cfg)
    codec = _checked('codec', codec)
    codec.setdefault('input_size', tuple(base_codec['input_size']))
    if head is None:
        _check_head_stays(codec, base_head, base_codec)
        new_head = copy.deepcopy(base_head)
        new_head.pop('_scope_', None)
    else:
        new_head = _complete_head(_checked('head', head), base_head)
    if is_simcc_codec(codec):
        _complete_simcc(codec, base_codec, new_head, head is None)
    else:
        _complete_heatmaps(codec, base_codec, base_head, new_head, cfg, head is None)
    _complete_frame(codec, base_codec, cfg)
    built = KEYPOINT_CODECS.build(codec)
    _set_sizes(new_head, built, base_head, base_codec, cfg, head is None)
    check_head_fits(new_head, codec)
    new_head['decoder'] = copy.deepcopy(codec)

    # nothing below raises an error: from here on the config is changed
    cfg['codec'] = copy.deepcopy(codec)
    model = cfg['model']
    if 'pose_cfg' in model['head']:
        model['head']['pose_cfg'] = new_head
    else:
        model['head'] = new_head
    if is_pooling(model.get('neck')):
        model.pop('neck')
    for target in generate_targets:
        target['encoder'] = copy.deepcopy(codec)
    _set_pipelines(cfg, codec)
    _set_flip_test(model, codec)
    if not cfg.get('default_scope'):  # a pure-Python config, which holds classes
        cfg['default_scope'] = 'mmpose'
    _child(cfg, 'default_hooks')['config_check'] = dict(type='ConfigCheckHook')
    if 'mmpose_simcc' not in imports:
        cfg['custom_imports'] = dict(imports=imports + ['mmpose_simcc'], allow_failed_imports=False)


def _base_parts(cfg: dict) -> Tuple[dict, dict]:
    """The head that predicts keypoints, and its codec.

    Raises:
        ValueError: They cannot be swapped.
    """
    model = cfg.get('model') or {}
    if type_name(model.get('head') or {}) == 'MSPNHead':
        raise ValueError(
            'MSPNHead cannot be swapped: it supervises every unit of every stage by labels of '
            'its own, from a list of codecs'
        )
    head = pose_head_cfg(cfg)
    codec = head.get('decoder')
    if (
        not isinstance(codec, dict)
        or 'input_size' not in codec
        or not list(dicts_of_type(cfg, 'TopdownAffine'))
    ):
        raise invalid(
            'cfg',
            type_name(model),
            'the config of a top-down model whose head has one codec as its `decoder`',
        )
    return head, codec


def _single_targets(cfg: dict) -> List[dict]:
    """Every ``GenerateTarget``.

    Raises:
        ValueError: One has several encoders.
    """
    targets = list(dicts_of_type(cfg, 'GenerateTarget'))
    for target in targets:
        if not isinstance(target.get('encoder'), dict):
            raise invalid('cfg', target, 'a config whose GenerateTarget has one `encoder`')
    return targets


def _imports(cfg: dict) -> List[str]:
    """The modules of ``custom_imports``, which may be one name or a list."""
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    return [imports] if isinstance(imports, str) else list(imports)


def _checked(name: str, given: dict) -> dict:
    """A copy of the codec or head that is given, with types by their names, so that the config
    can be dumped."""
    if not isinstance(given, dict) or not given.get('type'):
        raise invalid(name, given, 'a dict with a `type`')
    given = with_type_names(given)
    if name == 'codec':
        codec_class = class_of(given, KEYPOINT_CODECS)
        if codec_class is None or not issubclass(codec_class, TensorCodec):
            raise invalid('codec', given['type'], 'a codec of mmpose_simcc')
    elif 'decoder' in given:
        raise invalid('head.decoder', given['decoder'], 'left out: it is the `codec`')
    return given


def _child(node: dict, name: str) -> dict:
    """The dict under this name, made where there is none."""
    if not node.get(name):
        node[name] = {}
    return node[name]


def _complete_head(head: dict, base_head: dict) -> dict:
    """Fill a new head from the base's."""
    head.setdefault('out_channels', num_keypoints(base_head))
    if 'in_channels' not in head:
        if 'in_channels' not in base_head:
            raise invalid('head.in_channels', None, f'given: {type_name(base_head)} has none')
        head['in_channels'] = base_head['in_channels']
    return head


def _as_simcc_codec(base: dict) -> dict:
    """Arguments with which SimCCCodec makes the same labels as another SimCC
    codec."""
    if type_name(base) == 'SimCCCodec':
        names = ('sigma', 'simcc_split_ratio', 'label_smoothing', 'smoothing', 'normalize')
        return {name: base[name] for name in names if name in base}
    codec = {
        name: base[name] for name in ('sigma', 'simcc_split_ratio', 'normalize') if name in base
    }
    if base.get('smoothing_type') == 'standard':
        codec.pop('normalize', None)  # of Gaussians alone
        smoothing = base.get('label_smooth_weight', 0.0)
        if smoothing:
            codec.update(label_smoothing='equal', smoothing=smoothing)
        else:
            codec.update(label_smoothing='none')
    if base.get('use_dark'):
        codec['refine'] = 'dark'
    return codec


def _complete_simcc(codec: dict, base: dict, head: dict, keeps_head: bool) -> None:
    """Fill a SimCCCodec from the base's codec and from the loss of its head:
    scores and ``refine`` use the probabilities that the loss uses."""
    if is_simcc_codec(base):
        for name, value in _as_simcc_codec(base).items():
            if name != 'normalize' or keeps_head:
                codec.setdefault(name, value)
    loss = head.get('loss') or {}
    settings = {name: loss[name] for name in LOSS_SETTINGS if name in loss}
    if settings.get('label_softmax'):
        # the softmax of labels that sum to 1 would be almost flat
        codec.setdefault('normalize', False)
        stock = inspect.signature(MODELS.get('KLDiscretLoss')).parameters
        if type_name(loss) == 'KLDiscretLoss' and 'label_beta' not in stock:
            # MMPose < 1.3 has one factor for both
            settings['label_beta'] = loss.get('beta', 1.0)
    elif codec.get('normalize') is False:
        settings.setdefault('label_softmax', False)
    for name, value in settings.items():
        if codec.setdefault(name, value) != value:
            raise invalid(
                f'codec.{name}', codec[name], f"{value}, that of the head's {type_name(loss)}"
            )


def _complete_heatmaps(
    codec: dict, base: dict, base_head: dict, head: dict, cfg: dict, keeps_head: bool
) -> None:
    """Fill a codec of heatmaps from the base."""
    if 'heatmap_size' not in codec:
        if not keeps_head and type_name(head) in DECONVS or 'heatmap_size' not in base:
            features = featuremap_size(codec['input_size'], base_head, base, cfg)
            scale = 2 ** num_deconvs(head)
            codec['heatmap_size'] = tuple(cells * scale for cells in features)
        else:
            codec['heatmap_size'] = heatmap_size(codec['input_size'], base_head, base, cfg)
    if 'heatmap_size' in base and 'sigma' in base:
        codec.setdefault('sigma', base['sigma'])
    if 'sigma' not in codec:
        raise invalid('codec.sigma', None, f'given: {type_name(base)} has none in cells')


def _complete_frame(codec: dict, base: dict, cfg: dict) -> None:
    """Give a codec the frame of the base's pipelines.

    Raises:
        ValueError: The base's codec and pipelines have different frames.
    """
    if 'use_udp' in codec:
        return
    own, pipeline = codec_frame(base), bool(pipeline_frame(cfg))
    if not is_simcc_codec(codec) and own not in (None, pipeline):
        raise ValueError(
            f'`codec.use_udp` must be given: {frame_conflict(base, "the base has", pipeline)}'
        )
    if pipeline:
        codec['use_udp'] = True


def _set_sizes(
    head: dict, codec: TensorCodec, base_head: dict, base_codec: dict, cfg: dict, keeps_head: bool
) -> None:
    """Write into a SimCC head the sizes of its input and of its outputs."""
    if keeps_head and isinstance(codec, SimCCCodec):
        head['input_size'], head['simcc_split_ratio'] = codec.input_size, codec.simcc_split_ratio
        follows = head.get('in_featuremap_size') is not None  # None: keypoint tokens
    else:
        follows = type_name(head) == 'SimCCClassifierHead' and 'in_featuremap_size' not in head
    if follows:
        head['in_featuremap_size'] = featuremap_size(codec.input_size, base_head, base_codec, cfg)


def _set_pipelines(cfg: dict, codec: dict) -> None:
    """Write input size and frame of a codec into the pipelines."""
    for affine in dicts_of_type(cfg, 'TopdownAffine'):
        affine['input_size'] = codec['input_size']
        if codec.get('use_udp', False):
            affine['use_udp'] = True
        else:
            affine.pop('use_udp', None)


def _set_flip_test(model: dict, codec: dict) -> None:
    if type_name(model) == 'TopdownPoseEstimator':
        model['type'] = 'ExactFlipPoseEstimator'
    test_cfg = _child(model, 'test_cfg')
    for name in ('shift_coords', 'flip_mode', 'shift_heatmap'):
        test_cfg.pop(name, None)
    if test_cfg.get('flip_test') and not is_simcc_codec(codec):
        # for TopdownPoseEstimator, which moves mirrored maps by a cell or not at all
        test_cfg.update(flip_mode='heatmap', shift_heatmap=not codec.get('use_udp', False))


def _check_head_stays(codec: dict, base_head: dict, base_codec: dict) -> None:
    """Check that a head's outputs are what a new codec decodes.

    Raises:
        ValueError: They are not.
    """
    is_simcc = is_simcc_codec(codec)
    was_heatmaps = 'heatmap_size' in base_codec
    if type_name(base_codec) == 'IntegralRegressionLabel':
        was_heatmaps = False  # the head's outputs are coordinates
    if is_simcc != is_simcc_codec(base_codec) or not (is_simcc or was_heatmaps):
        raise invalid(
            'head', None, f'given: {type_name(base_head)} does not fit {type_name(codec)}'
        )
    if has_offset_maps(base_codec):
        raise invalid(
            'head',
            None,
            "given: UDPHeatmap(heatmap_type='combined') has offsets in two of three maps of a "
            f'keypoint, which {type_name(codec)} does not decode; a new head is trained for it',
        )
