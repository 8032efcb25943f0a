"""Ctrl-C and SIGTERM: the step is finished, the state is written, then the training ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A training ended early because it was told to; nothing that was trained is lost.

    Attributes:
        signal: The number of the signal.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.signal = number


class Request:
    """Whether somebody wants a training to end.

    Attributes:
        signal: The number of the signal that came, or 0.
    """

    signal = 0


@contextmanager
def requests() -> Iterator[Request]:
    """Note the first Ctrl-C or SIGTERM instead of ending at once; a second one ends at once.

    Yields:
        What notes it. Outside of the main thread, where Python delivers no signals, nothing does.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal:
            raise Interrupted(number, "interrupted twice: the last step was not finished")
        request.signal = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            # A handler that was not installed from Python cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
