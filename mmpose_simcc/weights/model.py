# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the published models of all architectures have in common."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

Shapes = Dict[str, Tuple[int, ...]]
# (w, h) of the papers' input images. Shapes alone may fit others with the same area.
INPUT_SIZES = ((64, 64), (128, 128), (96, 128), (192, 256), (256, 256), (288, 384))


@dataclass
class OfficialModel:
    """A published model, recognised from its weights.

    Attributes:
        name (str): Architecture and representation, for people.
        model (dict): MMPose config of the same model: ``backbone`` and
            ``head``, without codec.
        bgr_to_rgb (bool): Whether training turned OpenCV's BGR images to RGB.
        convert (callable): Turns name and value of an entry into MMPose's.
        use_udp (bool, optional): Whether the published code cuts pictures and
            maps out from the centre of the first cell to that of the last, as
            ``TopdownAffine(use_udp=True)`` does. None if several repositories
            publish such weights and differ in this.
        discarded (dict): Entries that have no counterpart, and why.
        notes (list[str]): What cannot be known from the weights.
    """

    name: str
    model: dict
    bgr_to_rgb: bool
    convert: Callable[[str, Tensor], Tuple[str, Tensor]]
    use_udp: Optional[bool] = None
    discarded: Dict[str, str] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)

    @property
    def data_preprocessor(self) -> dict:
        """MMPose's settings for what the published training fed.

        All published repositories normalise by ImageNet's statistics in the
        order R, G, B, even where the channels are B, G, R.
        """
        return dict(
            type='PoseDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=self.bgr_to_rgb,
        )


def shapes_of(weights: Dict[str, Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in weights.items()}


def shape_of(shapes: Shapes, name: str, ndim: int) -> Tuple[int, ...]:
    """The shape of an entry that the model is recognised by."""
    if name not in shapes:
        raise ValueError(
            f'the weights are a part of a model: there is no {name}, but {list_first(shapes)}'
        )
    if len(shapes[name]) != ndim or 0 in shapes[name]:
        raise ValueError(f'{name} has shape {shapes[name]}, but {ndim} dimensions are expected')
    return shapes[name]


def count(shapes: Shapes, prefix: str) -> int:
    """Number of modules ``prefix0``, ``prefix1`` and so on."""
    return len({name[len(prefix) :].split('.')[0] for name in shapes if name.startswith(prefix)})


def is_weights(value: Any) -> bool:
    """Whether it is a dict of names and tensors, and not empty."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(item, Tensor) for item in value.values())
    )


def list_first(names: Sequence[str], limit: int = 5) -> str:
    """The first names, for a message."""
    names = list(names)
    rest = len(names) - limit
    more = f' and {rest} more' if rest > 0 else ''
    return ', '.join(names[:limit]) + more


def check_match(
    what: str, expected: Shapes, weights: Dict[str, Tensor], sources: Dict[str, str]
) -> None:
    """Check that a model has exactly these weights, and that all are finite.

    Args:
        what (str): Names the weights, and the model where there are several, for the message.
        expected (dict): Names and shapes of the model's weights.
        weights (dict[str, Tensor]): The weights.
        sources (dict[str, str]): The name of each in the published file.

    Raises:
        ValueError: Some do not match, are missing, or are not finite.
    """
    damaged = [
        sources.get(name, name)
        for name, value in weights.items()
        if value.device.type != 'meta' and not torch.isfinite(value).all()
    ]
    unmatched = [
        sources.get(name, name)
        for name, shape in shapes_of(weights).items()
        if expected.get(name) != shape
    ]
    missing = [name for name in expected if name not in weights]
    problems = []
    if damaged:
        problems.append(f'not a finite number in {list_first(damaged)}')
    if unmatched:
        problems.append(f'no match for {list_first(unmatched)}')
    if missing:
        problems.append(f'no weights for {list_first(missing)} of the model')
    if problems:
        raise ValueError(f'{what}: {"; ".join(problems)}')
