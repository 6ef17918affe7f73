# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The single entry point to all families of published models."""

import logging
from typing import Dict

import torch
from mmpose.registry import MODELS
from torch import Tensor

from . import cnn, tokenpose
from .model import OfficialModel, Shapes, check_match, first, is_weights, shapes_of

logger = logging.getLogger('mmpose_simcc')

_COUNTER = 'num_batches_tracked'


def identify(state_dict: Dict[str, Tensor]) -> OfficialModel:
    """Recognise a published model from its names and shapes alone.

    Args:
        state_dict (dict[str, Tensor]): Weights as published by the
            repositories of SimpleBaseline, HRNet, DARK, DAEC, SimCC and
            TokenPose; a ``module.`` prefix may be there. SimCC on TokenPose
            was never published: its linear layers are expected as
            ``mlp_head_x`` and ``mlp_head_y``, alone or beside ``mlp_head``.

    Returns:
        OfficialModel: The model.

    Raises:
        ValueError: The weights are of no such model, of a part of one, or of
            DARK's Hourglass, which MMPose has not.
    """
    state_dict = _without_prefix(state_dict)
    shapes = shapes_of(state_dict)
    if tokenpose.is_tokenpose(shapes):
        return tokenpose.identify(state_dict)
    if cnn.is_hourglass(shapes):
        cnn.refuse_hourglass(shapes)
    if cnn.is_hrnet(shapes):
        return cnn.identify_hrnet(shapes)
    if cnn.is_resnet(shapes):
        return cnn.identify_resnet(shapes)
    raise ValueError(
        'the weights are of no model that is known here '
        '(SimpleBaseline, HRNet, TokenPose): no match for '
        f'{first(shapes)}'
    )


def convert_official(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Convert published weights to those of an MMPose model.

    The result is checked against the names and shapes of the model itself.
    What has no counterpart there is logged with the reason.

    Args:
        state_dict (dict[str, Tensor]): See :func:`identify`.

    Returns:
        dict[str, Tensor]: Weights of a ``TopdownPoseEstimator`` with the
        backbone and head that :func:`identify` gives, named ``backbone.*``
        and ``head.*``.

    Raises:
        ValueError: The weights are of no published model, or some are
            missing or do not belong there; the first names are listed.
    """
    official = identify(state_dict)
    converted, sources = {}, {}
    for name, value in _without_prefix(state_dict).items():
        if name in official.discarded:
            logger.warning('%s is not converted: %s', name, official.discarded[name])
            continue
        new_name, new_value = official.convert(name, value)
        converted[new_name], sources[new_name] = new_value, name

    expected = _model_shapes(official)
    if not any(name.endswith(_COUNTER) for name in converted):
        # files of torch before 0.4.1 have none
        converted.update({name: torch.tensor(0) for name in expected if name.endswith(_COUNTER)})
    check_match(f'recognised {official.name}', expected, converted, sources)
    return converted


def _model_shapes(official: OfficialModel) -> Shapes:
    """Names and shapes of MMPose's weights, without computing any."""
    with torch.device('meta'):
        model = MODELS.build(dict(type='TopdownPoseEstimator', **official.model))
    return shapes_of(model.state_dict())


def _without_prefix(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Remove what DataParallel puts before every name."""
    if not is_weights(state_dict):
        raise ValueError('`state_dict` must be a dict of names and tensors, and not empty')
    prefix = 'module.'
    if not all(name.startswith(prefix) for name in state_dict):
        return state_dict
    return {name[len(prefix) :]: v for name, v in state_dict.items()}
