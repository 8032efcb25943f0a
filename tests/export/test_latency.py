import time

import numpy as np
import pytest

from keras_amalgam import export


def test_latency_of_a_callable_is_its_wall_time():
    seen = []

    def call(image):
        seen.append(image.shape)
        time.sleep(0.02 if len(seen) == 7 else 0.002)
        return {"a": np.zeros(1)}

    measured = export.measure_latency(call, np.zeros((1, 2, 2, 1)), repeats=10, warmup=2)
    assert seen == [(1, 2, 2, 1)] * 12
    # Lower bounds only: a busy machine makes every call longer, never shorter.
    assert measured.median_ms >= 2.0
    assert measured.p95_ms >= 10.0
    assert (measured.repeats, measured.threads) == (10, None)


def test_latency_of_a_file_and_of_its_model_come_from_the_same_runtime(exported, student):
    file = export.measure_latency(exported.folder / "student_float32.tflite", repeats=5)
    model = export.measure_latency(student, repeats=5)
    assert file.threads == model.threads == 1
    assert 0 < file.median_ms <= file.p95_ms
    assert 0 < model.median_ms <= model.p95_ms


def test_latency_refuses_what_cannot_be_timed(exported):
    path = exported.folder / "student_int8.tflite"
    with pytest.raises(ValueError, match="repeats=0"):
        export.measure_latency(path, repeats=0)
    with pytest.raises(ValueError, match=r"Received: shape \(1, 5, 5, 3\)"):
        export.measure_latency(path, np.zeros((1, 5, 5, 3)))
    with pytest.raises(ValueError, match="image=None"):
        export.measure_latency(lambda image: image)
