# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Files of what tools have learned for a codec, and when they apply."""

import json
from typing import Any, Dict

import numpy as np

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


def plain(value: Any) -> Any:
    """Tuples and arrays as lists, as JSON may have read them."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def read_learned(path: str, name: str, format: str, needed: Dict[str, type], what: str) -> dict:
    """Read a file that a tool has learned.

    Args:
        path (str): The JSON file.
        name (str): The file in messages.
        format (str): Which files serve.
        needed (dict): What they hold, and of which type it is.
        what (str): The same in words.

    Returns:
        dict: Its content.

    Raises:
        ValueError: There is no such file, or it is another one.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except OSError as error:
        raise ValueError(f'{name} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise ValueError(f'{name} is not JSON: {error}') from error
    if (
        not isinstance(content, dict)
        or content.get('format') != format
        or not all(isinstance(content.get(key), kind) for key, kind in needed.items())
    ):
        raise ValueError(f'{name} holds no {what}')
    return content


def check_settings(name: str, learned: dict, settings: dict) -> None:
    """Check that a file was learned for a codec.

    Args:
        name (str): The file in messages.
        learned (dict): The codec's arguments for which it was.
        settings (dict): Those that the codec has.

    Raises:
        ValueError: One differs; the message names it.
    """
    for key, value in settings.items():
        if learned.get(key) != plain(value):
            raise ValueError(
                f'{name} was learned for {key}={learned.get(key)!r}, but '
                f'the codec has {key}={plain(value)!r}'
            )


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
    content = read_learned(
        path,
        name,
        FORMAT,
        dict(settings=dict, delta=object),
        'factor learned by tools/calibrate_daec.py',
    )
    if content.get('representation') != representation:
        raise ValueError(
            f'{name} was learned for the representation '
            f'{content.get("representation")!r}, not '
            f'{representation!r}'
        )
    learned_for = {'border': 'clip', **content['settings']}  # files from before there was a choice
    check_settings(name, learned_for, settings)
    return content['delta']
