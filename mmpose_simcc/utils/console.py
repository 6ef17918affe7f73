# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What people see of a running command."""

import contextlib
import io
import logging
from typing import Iterator

from mmengine.logging import MMLogger


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what data sets and metrics print and log."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
