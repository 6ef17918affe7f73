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
import inspect
from typing import Optional, Sequence, Tuple

from mmengine.config import Config
from mmpose.registry import KEYPOINT_CODECS, MODELS

from ..codecs.base import TensorCodec
from ..utils.checks import check_choice, invalid
from ..utils.inference import pose_head_cfg
from .parts import (
    dicts_of_type,
    has_offset_maps,
    is_simcc_codec,
    num_keypoints,
    parts_in_use,
    type_name,
)

# Whether cell i of a stock heatmap lies at pixel i (w-1)/(W-1), as UDP has it
STOCK_HEATMAPS = dict(
    MSRAHeatmap=False, MegviiHeatmap=False, UDPHeatmap=True, IntegralRegressionLabel=False
)
# Deconvolutions, each of stride 2, that these heads have by default
DECONVS = dict(
    HeatmapHead=3, ViPNASHead=3, SimCCHead=3, DSNTHead=3, IntegralRegressionHead=3, CPMHead=0
)
# Backbones whose last feature map has a cell for 32 pixels, unless one of these
# arguments is another than by default
STRIDE_32 = (
    'ResNet',
    'ResNetV1d',
    'ResNeXt',
    'ResNeSt',
    'SEResNet',
    'SCNet',
    'MobileNetV2',
    'ShuffleNetV1',
    'ShuffleNetV2',
)
STRIDE_ARGUMENTS = ('out_indices', 'strides', 'dilations')
LOSS_SETTINGS = ('beta', 'label_softmax', 'label_beta')  # and SimCCCodec's


def _cell_frame(codec: dict) -> Optional[bool]:
    """``use_udp`` of a codec of heatmaps; None for one without cells."""
    if is_simcc_codec(codec) or 'heatmap_size' not in codec:
        return None
    return STOCK_HEATMAPS.get(type_name(codec), codec.get('use_udp', False))


def _pipeline_frame(cfg: dict) -> Optional[bool]:
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


def _contradiction(codec: dict, place: str, use_udp: bool) -> str:
    own = _cell_frame(codec)
    name = type_name(codec)
    if name not in STOCK_HEATMAPS:
        name += f'(use_udp={own})'
    cells = 'i (w-1)/(W-1)' if own else 'i w/W'
    return (
        f'{place} {name} and TopdownAffine(use_udp={use_udp}), which contradict each other: '
        f'cell i of the heatmaps lies at pixel {cells}, and the pictures are cut out '
        f'{"with" if use_udp else "without"} UDP'
    )


def check_frames(cfg: dict) -> bool:
    """Check that codecs and pipelines agree on where a cell of a heatmap
    lies in the picture, which decides on up to 4 pixels.

    Args:
        cfg (Config | dict): A top-down config.

    Returns:
        bool: ``use_udp`` of its pipelines; a codec that reads the heatmaps of
        its model needs the same. SimCC has no cells: a bin lies at pixel b/k
        whatever this is.

    Raises:
        ValueError: A codec of heatmaps, or a pipeline, contradicts a
            pipeline; the line names both.
    """
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    use_udp = bool(_pipeline_frame(cfg))
    codecs = [('the config has the decoder', pose_head_cfg(cfg).get('decoder'))]
    for target in dicts_of_type(parts_in_use(cfg), 'GenerateTarget'):
        encoder = target.get('encoder')
        encoders = encoder if isinstance(encoder, (list, tuple)) else [encoder]
        codecs += [('the config has the encoder', encoder) for encoder in encoders]
    for place, codec in codecs:
        if isinstance(codec, dict) and _cell_frame(codec) not in (None, use_udp):
            raise ValueError(_contradiction(codec, place, use_udp))
    return use_udp


def _as_simcc_codec(base: dict) -> dict:
    """The arguments of SimCCCodec by which it makes the labels of another
    SimCC codec."""
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
    """Fill a SimCCCodec from the base's codec and from the loss of the head
    it is for: its scores and ``refine`` have to see what the loss sees."""
    if is_simcc_codec(base):
        for name, value in _as_simcc_codec(base).items():
            if name != 'normalize' or keeps_head:
                codec.setdefault(name, value)
    loss = head.get('loss') or {}
    settings = {name: loss[name] for name in LOSS_SETTINGS if name in loss}
    if settings.get('label_softmax'):
        # a softmax of labels with a sum of 1 is almost flat
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
            features = _featuremap_size(codec['input_size'], base_head, base, cfg)
            scale = 2 ** _num_deconvs(head)
            codec['heatmap_size'] = tuple(cells * scale for cells in features)
        else:
            codec['heatmap_size'] = _scaled(
                'codec.heatmap_size', base['heatmap_size'], base['input_size'], codec['input_size']
            )
    if 'heatmap_size' in base and 'sigma' in base:
        codec.setdefault('sigma', base['sigma'])
    if 'sigma' not in codec:
        raise invalid('codec.sigma', None, f'given: {type_name(base)} has none in cells')

    if 'use_udp' not in codec:
        own, pipeline = _cell_frame(base), bool(_pipeline_frame(cfg))
        if own not in (None, pipeline):
            raise ValueError(
                f'`codec.use_udp` must be given: {_contradiction(base, "the base has", pipeline)}'
            )
        if pipeline:
            codec['use_udp'] = True


def _num_deconvs(head: dict) -> int:
    if 'deconv_out_channels' in head:
        return len(head['deconv_out_channels'] or ())
    return DECONVS.get(type_name(head), 0)


def _scaled(
    name: str, size: Sequence[int], base_input: Sequence[int], input_size: Sequence[int]
) -> Tuple[int, int]:
    """A size in cells, for another input."""
    if tuple(input_size) == tuple(base_input):
        return tuple(size)
    if any(pixels % cells for pixels, cells in zip(base_input, size)):
        raise invalid(
            name,
            None,
            f'given: {tuple(size)} cells for {tuple(base_input)} pixels, as the base has them, '
            'tell of no other size',
        )
    strides = [pixels // cells for pixels, cells in zip(base_input, size)]
    if any(pixels % stride for pixels, stride in zip(input_size, strides)):
        raise invalid('codec.input_size', input_size, f'a multiple of the stride, {strides}')
    return tuple(pixels // stride for pixels, stride in zip(input_size, strides))


def _featuremap_size(
    input_size: Sequence[int], base_head: dict, base_codec: dict, cfg: dict
) -> Tuple[int, int]:
    """Size of the feature map that enters the head, for another input."""
    base_input = base_codec['input_size']
    size = base_head.get('in_featuremap_size')
    if size is None and 'heatmap_size' in base_codec and type_name(base_head) in DECONVS:
        scale = 2 ** _num_deconvs(base_head)
        size = [cells // scale for cells in base_codec['heatmap_size']]
    if size is None and _is_pooling(cfg['model'].get('neck')):
        backbone = cfg['model']['backbone']
        if _has_stride_32(backbone) and not any(pixels % 32 for pixels in base_input):
            size = [pixels // 32 for pixels in base_input]
    if size is None:
        raise invalid(
            'head.in_featuremap_size',
            None,
            f'given (None for keypoint tokens): {type_name(base_head)} on '
            f'{type_name(cfg["model"].get("backbone") or {})} does not tell it',
        )
    return _scaled('head.in_featuremap_size', size, base_input, input_size)


def _has_stride_32(backbone: dict) -> bool:
    if type_name(backbone) not in STRIDE_32:
        return False
    defaults = inspect.signature(MODELS.get(type_name(backbone))).parameters
    return all(
        name in defaults and tuple(backbone[name]) == tuple(defaults[name].default)
        for name in STRIDE_ARGUMENTS
        if name in backbone
    )


def _is_pooling(neck: Optional[dict]) -> bool:
    return isinstance(neck, dict) and type_name(neck) == 'GlobalAveragePooling'


def _base_parts(cfg: dict) -> Tuple[dict, dict]:
    """The head that predicts keypoints, and its codec.

    Raises:
        ValueError: They cannot be swapped.
    """
    model = cfg.get('model', {})
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


def set_representation(
    cfg: dict, codec: dict, head: Optional[dict] = None, targets: str = 'worker'
) -> None:
    """Change codec, and head where needed, of a top-down config, in place.

    Rewritten are the head's decoder, the encoder of every
    ``GenerateTarget``, the input size of every ``TopdownAffine`` and, for
    heatmaps, its ``use_udp``, and the flip test's arguments. A pooling neck
    goes. In a ``VisPredictHead`` the head of the keypoints is changed.

    Args:
        cfg (Config | dict): A top-down config, or ``_base_`` in a config
            file.
        codec (dict): Config of a codec of this package. Taken over from the
            base config when not given are ``input_size``; among heatmaps
            ``heatmap_size`` and ``sigma``, and ``use_udp`` (True for
            ``UDPHeatmap``, and for ``TopdownAffine(use_udp=True)``); among
            SimCC codecs ``simcc_split_ratio``, ``sigma``, the smoothing and,
            with the head, ``normalize``. The heatmap follows the input size,
            or the features and the deconvolutions of a new head.
            ``SimCCCodec`` gets ``beta``, ``label_softmax`` and ``label_beta``
            from the loss of its head.
        head (dict, optional): Config of a head, without ``decoder``, and with
            a loss of its own. ``in_channels``, ``out_channels`` and, for
            :class:`SimCCClassifierHead`, ``in_featuremap_size`` are taken
            over or derived when they are not given. By default the head
            stays, with its loss, and gets the new decoder.
        targets (str): Where dense labels are made: ``'worker'`` in the data
            workers, as stock, or ``'device'`` for the whole batch on the
            training device (:class:`TargetDataPreprocessor`), so that workers
            send only coordinates. Defaults to ``'worker'``.

    Raises:
        ValueError: The config is not that of a top-down model with one
            codec, codec and head do not fit, or something has to be given.
    """
    check_choice('targets', targets, ('worker', 'device'))
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    base_head, base_codec = _base_parts(cfg)
    codec = copy.deepcopy(dict(codec))
    codec.setdefault('input_size', tuple(base_codec['input_size']))
    is_simcc = is_simcc_codec(codec)
    keeps_head = head is None
    if keeps_head:
        _check_head_stays(codec, base_head, base_codec)
        new_head = copy.deepcopy(dict(base_head))
        new_head.pop('_scope_', None)
    else:
        new_head = dict(in_channels=base_head['in_channels'], out_channels=num_keypoints(base_head))
        new_head.update(copy.deepcopy(dict(head)))
    if is_simcc:
        _complete_simcc(codec, base_codec, new_head, keeps_head)
    else:
        _complete_heatmaps(codec, base_codec, base_head, new_head, cfg, keeps_head)
    built = KEYPOINT_CODECS.build(codec)
    if not isinstance(built, TensorCodec):
        raise invalid('codec', type_name(codec), 'a codec of mmpose_simcc')

    if keeps_head and is_simcc:
        if new_head.get('in_featuremap_size') is not None:
            new_head['in_featuremap_size'] = _featuremap_size(
                codec['input_size'], base_head, base_codec, cfg
            )
        for name in ('input_size', 'simcc_split_ratio'):
            new_head[name] = getattr(built, name)
    elif type_name(new_head) == 'SimCCClassifierHead' and 'in_featuremap_size' not in new_head:
        new_head['in_featuremap_size'] = _featuremap_size(
            codec['input_size'], base_head, base_codec, cfg
        )
    new_head['decoder'] = copy.deepcopy(codec)

    cfg['codec'] = copy.deepcopy(codec)
    if 'pose_cfg' in cfg['model']['head']:
        cfg['model']['head']['pose_cfg'] = new_head
    else:
        cfg['model']['head'] = new_head
    if _is_pooling(cfg['model'].get('neck')):
        cfg['model'].pop('neck')
    for target in dicts_of_type(cfg, 'GenerateTarget'):
        if not isinstance(target.get('encoder'), dict):
            raise invalid('cfg', target, 'a config whose GenerateTarget has one `encoder`')
        target['encoder'] = copy.deepcopy(
            codec if targets == 'worker' else dict(type='CoordinateCodec')
        )
    if targets == 'device':
        cfg['model'].setdefault('data_preprocessor', {}).update(
            type='TargetDataPreprocessor', codec=copy.deepcopy(codec)
        )
    use_udp = codec.get('use_udp', False)
    for affine in dicts_of_type(cfg, 'TopdownAffine'):
        affine['input_size'] = codec['input_size']
        if is_simcc:  # bins lie where they lie in either
            continue
        if use_udp:
            affine['use_udp'] = True
        else:
            affine.pop('use_udp', None)
    test_cfg = cfg['model'].setdefault('test_cfg', {})
    test_cfg.pop('shift_coords', None)
    if is_simcc:
        test_cfg.pop('flip_mode', None)
        test_cfg.pop('shift_heatmap', None)
    elif test_cfg.get('flip_test'):
        # without UDP a flipped heatmap lies a cell off
        test_cfg.update(flip_mode='heatmap', shift_heatmap=not use_udp)
    imports = list(cfg.get('custom_imports', {}).get('imports', []))
    if 'mmpose_simcc' not in imports:
        cfg['custom_imports'] = dict(imports=imports + ['mmpose_simcc'], allow_failed_imports=False)


def _check_head_stays(codec: dict, base_head: dict, base_codec: dict) -> None:
    """Check that a head's outputs are what a new codec decodes.

    Raises:
        ValueError: They are something else.
    """
    is_simcc = is_simcc_codec(codec)
    was_heatmaps = _cell_frame(base_codec) is not None
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
