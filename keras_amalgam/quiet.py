"""Keeps the chatter of converters, interpreters and TensorFlow off the screen."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what native code writes to standard error; shows it if the block raises.

    Converters and interpreters log from C++ straight to file descriptor 2, past Python's
    `sys.stderr`. The redirection is process-wide while the block runs.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            if failed:
                held.seek(0)
                os.write(2, held.read())


@contextlib.contextmanager
def quiet_loggers(*names: str, least: int = logging.ERROR) -> Iterator[None]:
    """Holds back what some Python loggers log below a level.

    Args:
        *names: Names of the loggers.
        least: The lowest level that is still logged.
    """
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(least)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
