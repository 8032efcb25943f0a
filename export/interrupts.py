"""Ctrl-C while native code runs that would lose it."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Holds an interrupt back until the block has ended, and delivers it then.

    TensorFlow's converter calls Python from C++, where a `KeyboardInterrupt` is dropped or becomes
    another error. Outside of the main thread, which alone is interrupted, nothing is done.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if received:
            signal.raise_signal(signal.SIGINT)
