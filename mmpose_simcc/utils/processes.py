# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Locks between processes, and processes that end with the one that started them."""

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
    """Take a lock if no other process has it. It is released at the latest when
    its process ends, even by SIGKILL.

    Args:
        path (Path): The lock's file, which is not deleted.

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
    """Hold a lock for work that only one process may do at a time. Prints a line
    if it has to wait for another process.

    Args:
        path (Path): The lock's file, which is not deleted.
        work (str): Names the work in that line.
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
    """Print that another process is doing this work at the moment."""
    print(f'{work}: under way in another process, waiting for it', file=sys.stderr, flush=True)


@functools.cache
def end_forks_with_parent() -> None:
    """From now on every process that is forked, by this one or by its children,
    ends when its parent has ended, even by SIGKILL.

    Data workers of torch watch their parent too, but one that has much data in
    its queue when the parent is gone waits for ever.
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
    # a data worker whose training is gone may wait for ever
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
