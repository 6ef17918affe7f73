# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Files of learned error-compensation factors, and when they apply."""

import json
from typing import Any

from ..version import __version__

FORMAT = 'mmpose_simcc.learned_delta'


def save_learned_delta(
    path, representation: str, delta: Any, settings: dict, provenance: dict
) -> None:
    """Write what :func:`load_learned_delta` reads.

    Args:
        path (str | Path): The JSON file.
        representation (str): 'heatmap' or 'simcc'.
        delta: In a form that the codec's ``delta`` takes.
        settings (dict): The codec's arguments for which it was learned.
        provenance (dict): What else should be known of it.
    """
    content = dict(
        format=FORMAT,
        version=__version__,
        representation=representation,
        delta=delta,
        settings=settings,
        **provenance,
    )
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(content, file, indent=2)
        file.write('\n')


def _plain(value: Any) -> Any:
    """Tuples as lists, whole numbers as JSON may have read them."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def load_learned_delta(path: str, representation: str, settings: dict) -> Any:
    """Read a factor learned by ``tools/calibrate_daec.py``.

    Args:
        path (str): The JSON file.
        representation (str): 'heatmap' or 'simcc'.
        settings (dict): The codec's arguments on which a factor depends.

    Returns:
        The factor, in a form that the codec's ``delta`` takes.

    Raises:
        ValueError: There is no such file, it is not one of learned factors,
            or it was learned for other settings; the message names them.
    """
    name = f'`delta` file {path!r}'
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except OSError as error:
        raise ValueError(f'{name} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise ValueError(f'{name} is not JSON: {error}') from error
    if (
        not isinstance(content, dict)
        or content.get('format') != FORMAT
        or not isinstance(content.get('settings'), dict)
        or 'delta' not in content
    ):
        raise ValueError(f'{name} holds no factor learned by tools/calibrate_daec.py')
    if content.get('representation') != representation:
        raise ValueError(
            f'{name} was learned for the representation '
            f'{content.get("representation")!r}, not '
            f'{representation!r}'
        )
    learned_for = {'border': 'clip', **content['settings']}  # files from before there was a choice
    for key, value in settings.items():
        learned = learned_for.get(key)
        if learned != _plain(value):
            raise ValueError(
                f'{name} was learned for {key}={learned!r}, but '
                f'the codec has {key}={_plain(value)!r}'
            )
    return content['delta']
