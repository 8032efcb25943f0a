"""Ctrl-C during native code is delivered when that has ended."""

import contextlib
import signal
import threading

import pytest

from keras_amalgam import export
from keras_amalgam.export.interrupts import held_back
from keras_amalgam.export.tflite import conversion


@pytest.fixture(autouse=True)
def pythons_own_handler():
    """Sets the handler of a terminal's process: one started with `&` by a script ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupt_waits_for_the_end_of_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest")
    assert done == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_takes_the_place_of_what_it_was_made_of():
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("KeyboardInterrupt, as a converter puts it")


def test_nothing_happens_without_an_interrupt_or_where_it_is_ignored():
    done = []
    with held_back():
        done.append("without an interrupt")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            signal.raise_signal(signal.SIGINT)
        done.append("ignored")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["without an interrupt", "ignored"]


def test_other_threads_are_left_alone():
    inside = []

    def block():
        with held_back():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert inside == [signal.default_int_handler]


def test_interrupt_that_the_converter_drops_ends_the_export(student, tmp_path, monkeypatch):
    def dropping(saved_model, plan, calibration):
        with contextlib.suppress(KeyboardInterrupt):  # As a call from C++ does.
            signal.raise_signal(signal.SIGINT)
        return real(saved_model, plan, calibration)

    real = conversion.QUANTIZERS["converter"]
    monkeypatch.setitem(conversion.QUANTIZERS, "converter", dropping)
    with pytest.raises(KeyboardInterrupt):
        export.to_tflite(student, tmp_path / "a.tflite")
    assert list(tmp_path.iterdir()) == []
