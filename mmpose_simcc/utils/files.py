# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Files that are complete or do not exist."""

import contextlib
import functools
import hashlib
import io
import secrets
from pathlib import Path
from typing import Iterator, Union

import numpy as np


@contextlib.contextmanager
def whole_file(path: Union[str, Path]) -> Iterator[Path]:
    """Write a file that replaces an earlier one only when it is complete. If
    writing fails, for example on a full disk, the earlier file stays. If several
    processes write it, the last one's file stays. Symbolic links stay links, and
    an existing file keeps its permissions.

    Args:
        path (str | Path): The file.

    Yields:
        Path: Where to write it, beside it, with the same suffix.

    Raises:
        OSError: It cannot be written; the error names it.

    Example:
        >>> with whole_file('table.md') as unfinished:
        ...     unfinished.write_text('...')
        3
    """
    target = Path(path).resolve()
    unfinished = target.with_name(f'.unfinished-{secrets.token_hex(4)}-{target.name}')
    mode = target.stat().st_mode if target.is_file() else None
    try:
        if mode is not None:
            unfinished.touch(0o600)  # others must not read it while it is written
        yield unfinished
        if mode is not None:
            unfinished.chmod(mode)
        unfinished.replace(target)
    except OSError as error:
        if error.filename and str(error.filename) != str(unfinished):
            raise  # an error of another file
        # errors of `write` do not name the file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def save_arrays(path: Union[str, Path], **arrays: np.ndarray) -> None:
    """Write arrays in numpy's ``.npz`` format.

    Args:
        path (str | Path): The file.
        arrays (np.ndarray): Arrays by their names.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    # in memory first: on a full disk numpy raises a second error while it cleans up
    content = io.BytesIO()
    np.savez(content, **arrays)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content.getvalue())


def file_sha256(path: Union[str, Path]) -> str:
    """SHA-256 of a file's content, in hexadecimal digits.

    Args:
        path (str | Path): The file.

    Raises:
        OSError: It cannot be read.
    """
    path = Path(path)
    status = path.stat()
    return _file_sha256(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _file_sha256(path: Path, mtime: int, size: int) -> str:
    content = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            content.update(block)
    return content.hexdigest()
