# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Processes that share a folder, and that end with the one that started them."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator, Optional

from filelock import FileLock, Timeout

INTERVAL = 1.0  # seconds between two looks at whether the parent is there


def try_lock(path: Path) -> Optional[FileLock]:
    """Take a lock if no other process has it. It is free again when it is
    released and when its process has ended, however that happened.

    Args:
        path (Path): Its file, which stays.

    Returns:
        FileLock: The lock, or None where another process has it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


@contextlib.contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Do work that one process at a time may do, and say so where it has to
    wait for another.

    Args:
        path (Path): The lock's file, which stays.
        work (str): What is done.
    """
    lock = try_lock(path)
    if lock is None:
        say_waiting(work)
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def say_waiting(work: str) -> None:
    """Say that another process does this work at the moment."""
    print(f'{work}: under way in another process, waiting for it', file=sys.stderr, flush=True)


@functools.cache
def end_forks_with_parent() -> None:
    """From now on a process that is forked, by this one or by its children,
    ends when its parent has, however that happened.

    The data workers of torch look after their parent too, but one that has
    much to hand over when it finds it gone waits for ever.
    """
    if hasattr(os, 'register_at_fork'):  # not on Windows, which does not fork
        os.register_at_fork(before=_note_parent, after_in_child=_watch_parent)


def _note_parent() -> None:
    global _parent
    _parent = os.getpid()


def _watch_parent() -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(INTERVAL)
        os._exit(1)

    parent = _parent
    threading.Thread(target=watch, daemon=True).start()


def end_group(process: subprocess.Popen, seconds: float) -> None:
    """End a process that was started with ``start_new_session=True``, if it
    still runs, and all that it started. Windows has no such groups: there what
    it started ends by :func:`end_with_stdin`.

    Args:
        process (subprocess.Popen): The process.
        seconds (float): How long it may take to end by itself.
    """
    if os.name == 'nt':
        process.kill()
        return
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    # a data worker whose training is gone may wait for it for ever
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def end_with_stdin() -> None:
    """End this process as soon as its standard input does: a pipe of which
    the process that started it, perhaps through a launcher, holds the other
    end for as long as it lives."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
