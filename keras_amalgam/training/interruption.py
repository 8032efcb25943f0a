"""Ctrl-C and SIGTERM: the step is finished, the state is written, then the training ends."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
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

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal:
            raise Interrupted(number, "interrupted twice: the last step was not finished")
        request.signal = number

    with _handled(note, SIGNALS):
        yield request


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, where Python would end without a word."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handled(end, (signal.SIGTERM,)):
        yield


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], None], signals: Sequence[signal.Signals]
) -> Iterator[None]:
    """Handle signals in the block; outside of the main thread, where none come, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            # A handler that was not installed from Python cannot be put back.
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
