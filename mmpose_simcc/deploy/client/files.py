# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Files that are whole or not there."""

import contextlib
import secrets
from pathlib import Path
from typing import Iterator


def unfinished_path(path: Path) -> Path:
    """Where to write a file until it is whole: beside it, with the same suffix,
    under a name that no other process writes to."""
    return path.with_name(f'.unfinished-{secrets.token_hex(4)}-{path.name}')


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file that takes its place only when it is whole: where that is
    interrupted or fails, an earlier one stays.

    Args:
        path (Path): The file.

    Yields:
        Path: Where to write it, beside it, with the same suffix.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    unfinished = unfinished_path(path)
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        if error.filename and str(error.filename) != str(unfinished):
            raise  # it is of another file
        # an error of writing knows no name
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
