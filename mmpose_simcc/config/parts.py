# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The parts of a config that several functions look up."""

from typing import Iterator


def type_name(cfg: dict) -> str:
    """``type`` as text configs name it; pure-Python configs hold a class."""
    type_ = cfg.get('type')
    return getattr(type_, '__name__', type_)


def dicts_of_type(node, name: str) -> Iterator[dict]:
    """Every dict with this ``type`` anywhere in a config."""
    if isinstance(node, dict):
        if type_name(node) == name:
            yield node
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for child in node:
        yield from dicts_of_type(child, name)
