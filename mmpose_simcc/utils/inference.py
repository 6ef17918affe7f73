# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Configs, models and network outputs of top-down estimators."""

import hashlib
import os
import re
import traceback
from collections import OrderedDict
from contextlib import contextmanager
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.utils import is_installed
from mmpose.models import TopdownPoseEstimator, build_pose_estimator
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from torch import Tensor, nn

from .compat import load_checkpoint, why_refused
from .configs import check_published_frame, class_of, pose_head_cfg, with_type_names


def one_line(error: Exception) -> str:
    """The error of another package as one line; what a bare assertion asserts."""
    text = str(error)
    if isinstance(error, AssertionError) and not text:
        text = traceback.extract_tb(error.__traceback__)[-1].line
    return f'{type(error).__name__}: {" ".join(text.split())}'


def load_config(name: str, options: Optional[dict] = None) -> Config:
    """Read the config of a top-down model.

    Args:
        name (str): A config file, or ``package::name`` for a config that an
            installed package brings, as in ``_base_``.
        options (dict, optional): Changes, by names such as ``'train_cfg.max_epochs'``.

    Returns:
        Config: The config; a pure-Python one with types by name.

    Raises:
        ValueError: There is no such config, it cannot be read or changed so, or its
            model is not a top-down pose estimator.
    """
    package = name.split('::')[0] if '::' in name else None
    if package and not is_installed(package):  # else mmengine installs it
        raise ValueError(f'config {name}: {package} is not installed')
    try:
        cfg = get_config(name) if package else Config.fromfile(name)
        if getattr(cfg, '_imported_names', None):  # a pure-Python config
            content = with_type_names(cfg.to_dict())
            content['default_scope'] = content.get('default_scope') or 'mmpose'
            cfg = Config(content, filename=cfg.filename)
        cfg.merge_from_dict(options or {})
    except Exception as error:  # a config is a program and may raise anything
        reason = one_line(error)
        if isinstance(error, RuntimeError) and not str(error):  # MMEngine's, for a function call
            reason = (
                'a pure-Python config cannot call a function; read the config in a script, call '
                'the function there, and dump the result'
            )
        raise ValueError(f'config {name}: {reason}') from error
    if 'model' not in cfg:
        raise ValueError(f'config {name} has no `model`')
    model_class = class_of(cfg.model, MODELS)
    if not (isinstance(model_class, type) and issubclass(model_class, TopdownPoseEstimator)):
        raise ValueError(
            f'config {name} has the model {cfg.model.get("type")}, which is not a '
            'TopdownPoseEstimator'
        )
    return cfg


def build_model(cfg: Config) -> TopdownPoseEstimator:
    """Build a config's model in evaluation mode, with arbitrary weights:
    nothing is loaded or downloaded.

    Args:
        cfg (Config): Config of a top-down model, see :func:`load_config`.

    Returns:
        TopdownPoseEstimator: The model, on the CPU, with ``cfg`` as an
        attribute.
    """
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    # building does not load pretrained weights, `init_weights` would
    model = revert_sync_batchnorm(build_pose_estimator(cfg.model)).eval()
    model.cfg = cfg
    return model


def pose_head(model: TopdownPoseEstimator) -> nn.Module:
    """The head that predicts keypoints, as :func:`pose_head_cfg`."""
    return getattr(model.head, 'pose_head', model.head)


def model_input_size(model: TopdownPoseEstimator) -> Tuple[int, int]:
    """Size (w, h) in pixels of the images that a model decodes for.

    Args:
        model (TopdownPoseEstimator): A model with its config as ``cfg``, from
            :func:`build_model` or MMPose's ``init_model``. Its head's decoder
            has the size, or else the codec of the config.

    Raises:
        ValueError: Neither has an ``input_size``.
    """
    for codec in pose_head_cfg(model.cfg).get('decoder'), model.cfg.get('codec'):
        size = (codec or {}).get('input_size')
        if size is not None:
            width, height = size
            return int(width), int(height)
    raise ValueError(
        f'neither the decoder of {type(model.head).__name__} nor `codec` has an `input_size`'
    )


def weights_digest(model: nn.Module) -> str:
    """Digest of a model's weights, whatever file they come from.

    Args:
        model (nn.Module): The model.

    Returns:
        str: Twelve hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def load_weights(model: nn.Module, checkpoint: str) -> None:
    """Load a checkpoint that must fit the model entry for entry, after what
    MMPose's models do to the names of older versions (``keypoint_head`` of
    0.x) when they load.

    Args:
        model (nn.Module): The model; its config as ``cfg`` says how its pictures are cut out,
            where it has one. After an error it may have some of the weights already.
        checkpoint (str): Path of the checkpoint.

    Raises:
        ValueError: It cannot be read, is that of another model (the message
            names the first entry that differs), or was converted from
            published weights for pictures that are cut out otherwise.
    """
    try:
        loaded = load_checkpoint(os.path.expanduser(checkpoint))
    except Exception as error:  # unpickling raises nearly anything
        raise ValueError(f'checkpoint {checkpoint} cannot be read: {why_refused(error)}') from error
    if isinstance(loaded, dict) and hasattr(model, 'cfg'):
        try:
            check_published_frame(model.cfg, loaded.get('meta'))
        except ValueError as error:
            raise ValueError(f'checkpoint {checkpoint}: {error}') from error
    loaded = loaded.get('state_dict', loaded) if isinstance(loaded, dict) else {}
    state = OrderedDict(
        (name[len('module.') :] if name.startswith('module.') else name, value)
        for name, value in loaded.items()
    )
    # versions of the modules that wrote it, by which they tell older names
    state._metadata = getattr(loaded, '_metadata', OrderedDict())
    try:
        model.load_state_dict(state)
    except Exception as error:  # a module's conversion of names may fail as well
        raise ValueError(
            f'checkpoint {checkpoint} is of another model: it {_difference(error)}'
        ) from error


def _difference(error: Exception) -> str:
    """The first difference that torch lists between a model and weights."""
    text = str(error)
    missing = re.search(r'Missing key\(s\) in state_dict: "(.+?)"', text)
    if missing:
        return f'has no `{missing[1]}`'
    unexpected = re.search(r'Unexpected key\(s\) in state_dict: "(.+?)"', text)
    if unexpected:
        return f'has `{unexpected[1]}`, which the model does not have'
    shape = re.search(r'size mismatch for (\S+): .*?Size\(\[(.*?)\].*?Size\(\[(.*?)\]', text)
    if shape:
        return f'has `{shape[1]}` of shape ({shape[2]}), the model ({shape[3]})'
    return f'cannot be loaded: {one_line(error)}'


@contextmanager
def recorded_outputs(head: nn.Module) -> Iterator[List[Tuple[Tensor, ...]]]:
    """Record what a head passes to its ``decode``: the network outputs, after
    the flip test if there is one.

    Args:
        head (nn.Module): Head of a top-down model.

    Yields:
        list: Gets, for each call of ``decode``, the tuple of its tensors,
        each of shape (B, K, ...).
    """
    decode: Callable = head.decode
    outputs = []

    def record(batch_outputs):
        outputs.append(batch_outputs if isinstance(batch_outputs, tuple) else (batch_outputs,))
        return decode(batch_outputs)

    head.decode = record  # hides the class's method
    try:
        yield outputs
    finally:
        del head.decode


@torch.no_grad()
def network_outputs(
    model: TopdownPoseEstimator, batches: Iterable[dict]
) -> Iterator[Tuple[Tuple[Tensor, ...], List[PoseDataSample]]]:
    """Run a model over data and keep what its head decodes.

    Args:
        model (TopdownPoseEstimator): In evaluation mode; its ``test_cfg``
            decides on the flip test.
        batches (iterable): Batches of a data loader.

    Yields:
        tuple: For each batch

        - the network outputs on the model's device, each of shape
          (B, K, ...);
        - the data samples, with the model's own predictions.

    Raises:
        ValueError: The head does not decode by its method ``decode``.
    """
    for batch in batches:
        yield _outputs_of(model, batch)


def _outputs_of(
    model: TopdownPoseEstimator, batch: dict
) -> Tuple[Tuple[Tensor, ...], List[PoseDataSample]]:
    """One batch of :func:`network_outputs`. A function of its own, so that its input images are
    freed before the next ones are loaded."""
    head = pose_head(model)
    data = model.data_preprocessor(batch, False)
    with recorded_outputs(head) as outputs:
        samples = model.predict(data['inputs'], data['data_samples'])
    if len(outputs) != 1:
        raise ValueError(
            f'{type(head).__name__} does not decode a batch by one call of its method `decode`'
        )
    return outputs[0], samples
