"""Limits: what is none is refused, and what is no number keeps none."""

import pytest

from keras_amalgam import export
from keras_amalgam.export import parity


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("min_agreement", 1.01),
        ("min_accuracy", 95.0),
        ("max_error", -1.0),
        ("max_bytes", -1),
        ("max_latency_ms", float("nan")),
        ("max_accuracy_loss", float("inf")),
        ("max_error", "0.1"),
        ("min_accuracy", True),
    ],
)
def test_limit_that_makes_no_sense_is_refused(limit, value):
    with pytest.raises(ValueError, match=f"`{limit}` is no such limit. Received: {value!r}"):
        export.Thresholds(**{limit: value})


def test_threshold_is_missed_by_what_is_no_number():
    heads = {"a": parity.HeadParity(0.0, 0.0, 1.0, 1.0)}
    latency = {"one_thread": {"median": float("nan")}}
    measured = {"bytes": 1, "memory_bytes": 1, "latency_ms": latency, "accuracy": {}}
    (missed,) = export.Thresholds(max_latency_ms=1.0).missed(measured, heads, "float32")
    assert "Received: nan" in missed
