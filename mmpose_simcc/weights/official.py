# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Recognises and converts the weights of every family of published models."""

import logging
from typing import Dict, Optional

import torch
from mmpose.registry import MODELS
from torch import Tensor

from ..utils.checks import check_choice, invalid
from . import cnn, tokenpose
from .model import OfficialModel, Shapes, check_match, is_weights, list_first, shapes_of

logger = logging.getLogger('mmpose_simcc')

_COUNTER = 'num_batches_tracked'
#: The repositories that publish weights, and whether their code puts the box's centre at
#: ((w-1)/2, (h-1)/2) of a picture and of a heatmap, as UDP does, or at (w/2, h/2).
SOURCES = dict(simplebaseline=False, hrnet=False, simcc=False, dark=True, tokenpose=True)
_UDP_NOTE = (
    "The published crops have one scale for x and y, (w-1) pixels for the box's width, where UDP "
    'has (h-1) for its height: towards the upper and the lower end keypoints differ by up to 1/8 '
    'of a heatmap cell (256x192).'
)


def identify(
    state_dict: Dict[str, Tensor],
    source: Optional[str] = None,
    num_keypoints: Optional[int] = None,
) -> OfficialModel:
    """Recognise a published model from its names and shapes.

    Args:
        state_dict (dict[str, Tensor]): Weights as published by the
            repositories of SimpleBaseline, HRNet, DARK, SimCC and TokenPose;
            ``module.`` prefixes may be there. SimCC on TokenPose was never
            published: its linear layers are expected as ``mlp_head_x`` and
            ``mlp_head_y``, alone or beside ``mlp_head``.
        source (str, optional): The repository that published them, one of
            ``'simplebaseline'``, ``'hrnet'``, ``'dark'``, ``'simcc'`` and
            ``'tokenpose'``. It says how pictures are cut out, and is needed
            for heatmap models on ResNet and HRNet, whose weights have the
            same names in the first three. DAEC decodes models of HRNet and
            DARK.
        num_keypoints (int, optional): For SimCC without deconvolutions, whose
            shapes may fit several numbers of keypoints. By default the one
            that resembles published models.

    Returns:
        OfficialModel: The model.

    Raises:
        ValueError: The weights are of no such model, of a part of one, of
            DARK's Hourglass, which MMPose does not have, or not of this repository.
    """
    if source is not None:
        check_choice('source', source, list(SOURCES))
    official = _identify_model(_without_prefix(state_dict), num_keypoints)
    if official.use_udp is None and source is not None:
        official.use_udp = SOURCES[source]
    elif source is not None and SOURCES[source] != official.use_udp:
        raise invalid('source', source, f'that of {official.name}')
    if official.use_udp:
        official.notes.append(_UDP_NOTE)
    return official


def _identify_model(state_dict: Dict[str, Tensor], num_keypoints: Optional[int]) -> OfficialModel:
    shapes = shapes_of(state_dict)
    if tokenpose.is_tokenpose(shapes):
        return tokenpose.identify(state_dict)
    if cnn.is_hourglass(shapes):
        cnn.refuse_hourglass(shapes)
    if cnn.is_hrnet(shapes):
        return cnn.identify_hrnet(shapes, num_keypoints)
    if cnn.is_resnet(shapes):
        return cnn.identify_resnet(shapes, num_keypoints)
    raise ValueError(
        'the weights are of no model that is known here '
        '(SimpleBaseline, HRNet, TokenPose): no match for '
        f'{list_first(shapes)}'
    )


def convert_official(
    state_dict: Dict[str, Tensor], num_keypoints: Optional[int] = None
) -> Dict[str, Tensor]:
    """Convert published weights to those of an MMPose model.

    The result is checked against the names and shapes of the model. Entries
    without a counterpart in it are logged with the reason.

    Args:
        state_dict (dict[str, Tensor]): See :func:`identify`.
        num_keypoints (int, optional): See :func:`identify`.

    Returns:
        dict[str, Tensor]: Weights of a ``TopdownPoseEstimator`` with the
        backbone and head that :func:`identify` gives, named ``backbone.*``
        and ``head.*``.

    Raises:
        ValueError: The weights are of no published model, some are missing or
            do not belong there, or some are not finite numbers; the first
            names are listed.
    """
    official = identify(state_dict, num_keypoints=num_keypoints)
    converted, sources = {}, {}
    for name, value in _without_prefix(state_dict).items():
        if name in official.discarded:
            logger.warning('%s is not converted: %s', name, official.discarded[name])
            continue
        new_name, new_value = official.convert(name, value)
        converted[new_name], sources[new_name] = new_value, name

    expected = _model_shapes(official)
    if not any(name.endswith(_COUNTER) for name in converted):
        # torch before 0.4.1 did not count batches
        converted.update({name: torch.tensor(0) for name in expected if name.endswith(_COUNTER)})
    check_match(f'recognised {official.name}', expected, converted, sources)
    return converted


def _model_shapes(official: OfficialModel) -> Shapes:
    """Names and shapes of MMPose's weights, without computing any."""
    with torch.device('meta'):
        model = MODELS.build(dict(type='TopdownPoseEstimator', **official.model))
    return shapes_of(model.state_dict())


def _without_prefix(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Remove the prefixes of DataParallel, of which nested ones are repeated."""
    if not is_weights(state_dict):
        raise ValueError('`state_dict` must be a dict of names and tensors, and not empty')
    prefix = 'module.'
    while all(name.startswith(prefix) for name in state_dict):
        state_dict = {name[len(prefix) :]: value for name, value in state_dict.items()}
    return state_dict
