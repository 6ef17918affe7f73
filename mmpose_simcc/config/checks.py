# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Find out before a training that parts of a config do not belong together."""

import inspect
import logging
import warnings
from typing import Iterator, List, Tuple

import torch
from mmengine.config import Config
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import DATASETS

from ..codecs.calibration import read_calibration
from ..models import TokenPose
from ..utils.checks import invalid
from ..utils.configs import (
    class_of,
    dicts_of_type,
    flip_test_of,
    is_simcc_codec,
    label_codecs,
    num_keypoints,
    parts_in_use,
    pose_head_cfg,
    same,
    type_name,
)
from ..utils.inference import build_model, one_line
from .frames import check_frames
from .heads import SHARED, check_head_fits

logger = logging.getLogger('mmpose_simcc')

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_config(cfg: dict) -> None:
    """Check that the parts of a top-down config agree.

    These are the frames of codecs and pipelines (:func:`check_frames`), the codec of the labels
    and that of the decoder, the size to which pictures are cropped, the head and its codec, the
    number of keypoints of head, backbone, data sets and metrics, and the sizes of the network's
    outputs: the model is built without memory for its weights and run once, which takes about a
    second. Pairs of keypoints that a mirrored picture swaps one way only are logged.

    Args:
        cfg (Config | dict): A top-down config. What it does not have is not checked.

    Raises:
        ValueError: Two parts disagree (the message names both values), the model cannot be built,
            or it does not take pictures of this size.

    Example:
        >>> from mmengine.hub import get_config
        >>> cfg = get_config('mmpose::body_2d_keypoint/topdown_heatmap/coco/'
        ...                  'td-hm_res50_8xb64-210e_coco-256x192.py')
        >>> check_config(cfg)
        >>> cfg.model.head.out_channels = 16
        >>> check_config(cfg)
        Traceback (most recent call last):
            ...
        ValueError: `model.head.out_channels` must be 17, the number of keypoints of CocoDataset \
in `train_dataloader`, but got 16
    """
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    check_frames(cfg)
    head = pose_head_cfg(cfg)
    if not head:
        return
    _check_data_sets(cfg, head)
    _check_converters(cfg, head)
    decoder = head.get('decoder')
    if not isinstance(decoder, dict) or 'input_size' not in decoder:
        return
    check_head_fits(head, decoder)
    check_calibration(cfg, decoder)
    _check_labels(cfg, decoder)
    _check_crops(cfg, decoder)
    _check_tokens(cfg['model'].get('backbone') or {}, head, decoder)
    _check_outputs(cfg, decoder)


def check_calibration(cfg: dict, decoder: dict) -> None:
    """Check that a decoder's calibration was made with the flip test that a config has.
    ``CalibratedPoseEstimator`` does the one of the calibration.

    Args:
        cfg (Config | dict): A top-down config.
        decoder (dict): Config of a codec.

    Raises:
        ValueError: It was made with another flip test, or cannot be read.
    """
    path, model = decoder.get('calibration'), cfg['model']
    if path is None or type_name(model) == 'CalibratedPoseEstimator':
        return
    made, has = read_calibration(path)['made_for'].get('flip_test'), flip_test_of(model)
    if made != has:
        raise ValueError(
            f'`calibration` file {str(path)!r} was made with the flip test {made!r}, but the '
            f'config has {has!r}; model.type=CalibratedPoseEstimator does the one of the file'
        )


def _check_labels(cfg: dict, decoder: dict) -> None:
    """The codecs that make labels against the decoder."""
    for encoder in label_codecs(cfg):
        if 'input_size' not in encoder:
            continue
        if is_simcc_codec(encoder) != is_simcc_codec(decoder):
            raise ValueError(
                f'the pipeline makes labels by {type_name(encoder)}, which the decoder '
                f'{type_name(decoder)} does not read'
            )
        for name, default in SHARED.items():
            value, wanted = encoder.get(name, default), decoder.get(name, default)
            if not same(value, wanted):
                raise ValueError(
                    f'the pipeline makes labels with {name}={value}, but the decoder has '
                    f'{name}={wanted}'
                )


def _check_crops(cfg: dict, decoder: dict) -> None:
    for affine in dicts_of_type(parts_in_use(cfg), 'TopdownAffine'):
        if not same(affine['input_size'], decoder['input_size']):
            raise ValueError(
                f'a pipeline has TopdownAffine(input_size={tuple(affine["input_size"])}), but '
                f'the decoder has input_size={tuple(decoder["input_size"])}'
            )


def _check_tokens(backbone: dict, head: dict, decoder: dict) -> None:
    """TokenPose is built for one number of keypoints and one size."""
    if type_name(backbone) != 'TokenPose':
        return
    wanted = dict(num_keypoints=num_keypoints(head), input_size=decoder['input_size'])
    for name, parameter in inspect.signature(TokenPose).parameters.items():
        value = backbone.get(name, parameter.default)
        if name in wanted and not same(value, wanted[name]):
            raise invalid(f'model.backbone.{name}', value, f'{wanted[name]}, that of the head')


def _check_data_sets(cfg: dict, head: dict) -> None:
    """Keypoints of every data set, after conversion, against those of the head."""
    for loader in LOADERS:
        if loader != 'train_dataloader' and _converts_predictions(cfg, loader):
            continue
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        for name, keypoints in _keypoints_of(dataset, loader):
            if keypoints == num_keypoints(head):
                continue
            argument = 'num_joints' if 'num_joints' in head else 'out_channels'
            factor = head[argument] // num_keypoints(head)
            raise invalid(
                f'model.head.{argument}',
                head[argument],
                f'{keypoints * factor}, the number of keypoints of {name} in `{loader}`'
                + (f' times {factor}' if factor > 1 else ''),
            )


def _metrics_of(cfg: dict, loader: str) -> List[dict]:
    metrics = cfg.get(loader.replace('dataloader', 'evaluator')) or []
    metrics = metrics if isinstance(metrics, (list, tuple)) else [metrics]
    return [metric for metric in metrics if isinstance(metric, dict)]


def _converts_predictions(cfg: dict, loader: str) -> bool:
    """Whether a test is on a part of the head's keypoints."""
    if 'output_keypoint_indices' in (cfg['model'].get('test_cfg') or {}):
        return True
    return any(metric.get('pred_converter') for metric in _metrics_of(cfg, loader))


def _check_converters(cfg: dict, head: dict) -> None:
    """A metric converts predictions and annotations to the same number of keypoints."""
    for loader in LOADERS[1:]:
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        annotated = [keypoints for _, keypoints in _keypoints_of(dataset, loader)]
        if not annotated or 'output_keypoint_indices' in (cfg['model'].get('test_cfg') or {}):
            continue
        for metric in _metrics_of(cfg, loader):
            truth, predicted = metric.get('gt_converter'), metric.get('pred_converter')
            truth = truth['num_keypoints'] if truth else annotated[-1]
            predicted = predicted['num_keypoints'] if predicted else num_keypoints(head)
            if truth != predicted:
                raise ValueError(
                    f'{type_name(metric)} in `{loader.replace("dataloader", "evaluator")}` '
                    f'compares {predicted} predicted keypoints with {truth} annotated ones: '
                    '`gt_converter` and `pred_converter` must give as many'
                )


def _keypoints_of(dataset: dict, loader: str) -> Iterator[Tuple[str, int]]:
    """Name and number of keypoints of a data set, and of all that it combines."""
    name = type_name(dataset)
    converted = list(dicts_of_type(dataset.get('pipeline', []), 'KeypointConverter'))
    inner = [*dataset.get('datasets', []), *filter(None, [dataset.get('dataset')])]
    for each in inner:
        for inner_name, keypoints in _keypoints_of(each, loader):
            yield inner_name, converted[-1]['num_keypoints'] if converted else keypoints
    dataset_class = class_of(dataset, DATASETS)
    metainfo = dataset.get('metainfo') or getattr(dataset_class, 'METAINFO', None)
    if metainfo:
        keypoints = read_metainfo(metainfo, f'{name} in `{loader}`')['num_keypoints']
        yield name, converted[-1]['num_keypoints'] if converted and not inner else keypoints


def read_metainfo(metainfo: dict, place: str) -> dict:
    """Read the metainfo of a data set. Pairs that a mirrored picture swaps one way only are logged
    and not refused, because MMPose has a data set with such pairs.

    Args:
        metainfo (dict): As in a data set's config.
        place (str): Whose it is, for messages.

    Returns:
        dict: What MMPose's ``parse_pose_metainfo`` makes of it.

    Raises:
        ValueError: It cannot be read, does not number its keypoints from 0 on, or has ``sigmas``
            of another number than keypoints (none is allowed).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of files that MMPose finds in its own folder
            parsed = parse_pose_metainfo(metainfo)
    except Exception as error:  # it may be a file, which is a program
        raise ValueError(f'the metainfo of {place} cannot be read: {one_line(error)}') from error
    names, swaps = parsed['keypoint_id2name'], parsed['flip_indices']
    if list(names) != list(range(len(names))):  # MMPose takes them for places in the annotations
        first = ', '.join(map(str, list(names)[:3]))
        raise ValueError(
            f'the metainfo of {place} has keypoints {first}, ...: the keys of `keypoint_info` have '
            f'to be 0, 1, ..., {len(names) - 1}'
        )
    for keypoint, other in enumerate(swaps):
        if swaps[other] != keypoint:
            logger.warning(
                'the metainfo of %s swaps %r with %r in mirrored pictures, but %r with %r',
                place,
                names[keypoint],
                names[other],
                names[other],
                names[swaps[other]],
            )
            break
    if len(parsed['sigmas']) not in (parsed['num_keypoints'], 0):
        raise ValueError(
            f'the metainfo of {place} has {parsed["num_keypoints"]} keypoints, but '
            f'{len(parsed["sigmas"])} `sigmas`'
        )
    return parsed


def _check_outputs(cfg: dict, decoder: dict) -> None:
    """The sizes of the network's outputs, by a run on the meta device, which computes nothing."""
    w, h = decoder['input_size']
    channels = 1 if reads_grey(cfg) else 3
    try:
        model = _build_on_meta(cfg)
    except Exception as error:
        raise ValueError(f'the model cannot be built: {one_line(error)}') from error
    try:
        with torch.no_grad():
            outputs = model.head(model.extract_feat(torch.empty(1, channels, h, w, device='meta')))
    except NotImplementedError:  # an operation that the meta device does not have
        return
    except Exception as error:
        raise ValueError(
            f'the model does not take pictures of {w}x{h} pixels (w x h): {one_line(error)}'
        ) from error
    if type_name(cfg['model']['head']) == 'VisPredictHead':
        outputs = outputs[0]
    maps = outputs[-1] if isinstance(outputs, list) else outputs  # of the last stage
    wanted = decoder.get('heatmap_size')
    if wanted is None or not torch.is_tensor(maps) or maps.ndim != 4:
        return
    size = tuple(maps.shape[:1:-1])
    if size != tuple(wanted):
        raise ValueError(
            f'the network has heatmaps of {size} cells (w, h) for pictures of {w}x{h} pixels, '
            f'but the decoder has heatmap_size={tuple(wanted)}'
        )


def reads_grey(cfg: dict) -> bool:
    """Whether a pipeline of a config reads pictures with one channel."""
    steps = dicts_of_type(parts_in_use(cfg), 'LoadImage')
    return any(step.get('color_type') == 'grayscale' for step in steps)


def _build_on_meta(cfg: dict) -> TopdownPoseEstimator:
    """A model without memory for its weights."""
    cfg = Config(dict(model=cfg['model']))
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device('meta'):
                return build_model(cfg)
        except (RuntimeError, NotImplementedError):  # it computes something while it is built
            return build_model(cfg).to('meta')
