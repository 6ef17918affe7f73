# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Network outputs of trained top-down models over data."""
from contextlib import contextmanager
from typing import Callable, Iterable, Iterator, List, Tuple

import torch
from mmengine.runner import CheckpointLoader
from mmpose.models import TopdownPoseEstimator
from mmpose.structures import PoseDataSample
from torch import Tensor, nn


def load_weights(model: nn.Module, checkpoint: str) -> None:
    """Load a checkpoint that must fit the model entry for entry.

    Args:
        model (nn.Module): The model.
        checkpoint (str): Path of the checkpoint.

    Raises:
        ValueError: It cannot be read, or is that of another model; the
            message names the first entry that differs.
    """
    try:
        loaded = CheckpointLoader.load_checkpoint(
            str(checkpoint), map_location='cpu', logger='silent')
    except Exception as error:  # unpickling raises nearly anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f'checkpoint {checkpoint} cannot be read: {reason}') from error
    state = loaded.get('state_dict', loaded) if isinstance(loaded,
                                                           dict) else {}
    state = {
        name[len('module.'):] if name.startswith('module.') else name: value
        for name, value in state.items()
    }
    own = model.state_dict()
    for name in [*own, *state]:
        if name not in state:
            problem = f'has no `{name}`'
        elif name not in own:
            problem = f'has `{name}`, which the model has not'
        elif own[name].shape != state[name].shape:
            problem = (f'has `{name}` of shape {tuple(state[name].shape)}, '
                       f'the model {tuple(own[name].shape)}')
        else:
            continue
        raise ValueError(
            f'checkpoint {checkpoint} is of another model: it {problem}')
    model.load_state_dict(state)


@contextmanager
def recorded_outputs(head: nn.Module) -> Iterator[List[Tuple[Tensor, ...]]]:
    """Record what a head hands to its ``decode``: the network outputs after
    everything that the head does to them, the flip test included.

    Args:
        head (nn.Module): Head of a top-down model.

    Yields:
        list: Gets, for each call of ``decode``, the tuple of its tensors,
        each of shape (B, K, ...).
    """
    decode: Callable = head.decode
    outputs = []

    def record(batch_outputs):
        outputs.append(batch_outputs if isinstance(batch_outputs, tuple) else
                       (batch_outputs, ))
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
        data = model.data_preprocessor(batch, False)
        with recorded_outputs(model.head) as outputs:
            samples = model.predict(data['inputs'], data['data_samples'])
        if len(outputs) != 1:
            raise ValueError(f'{type(model.head).__name__} does not decode a '
                             'batch by one call of its method `decode`')
        yield outputs[0], samples
