import pytest

from keras_amalgam.report import formats


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (formats.percent, 0.97849, "97.85"),
        (formats.percent, 1.0, "100.00"),
        (formats.points, -0.012, "−1.20"),
        (formats.points, 0.0035, "+0.35"),
        (formats.points, -0.00001, "0.00"),
        (formats.count, 551234, "551,234"),
        (formats.file_size, 999, "999 bytes"),
        (formats.file_size, 58_340, "58.3 kB"),
        (formats.file_size, 2_412_345, "2.41 MB"),
        (formats.milliseconds, 0.2314, "0.231 ms"),
        (formats.duration, 59.4, "59.4 s"),
        (formats.duration, 142.3, "2 min 22 s"),
        (formats.duration, 119.7, "2 min 0 s"),
        (formats.ratio, 9.953, "9.95 ×"),
        (formats.scalar, 0.0, "0"),
        (formats.scalar, 0.03124, "0.0312"),
        (formats.scalar, -12.34, "−12.3"),
        (formats.scalar, 3.1e-6, "3.10 × 10⁻⁶"),
        (formats.words, [], ""),
        (formats.words, ["a"], "a"),
        (formats.words, ["a", "b", "c"], "a, b and c"),
    ],
)
def test_a_number_reads(form, value, text):
    assert form(value) == text
