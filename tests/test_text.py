import pytest

from keras_amalgam import text

ROWS = [("name", "bytes"), ("a|b", "1"), ("longer", "1,000")]


def test_lines_are_aligned_and_end_without_spaces():
    assert text.lines(ROWS, right=(1,), indent=2).splitlines() == [
        "  name    bytes",
        "  a|b         1",
        "  longer  1,000",
    ]
    assert text.lines([("a", ""), ("bb", "c")]) == "a\nbb  c"


def test_lines_with_a_rule_have_a_header():
    assert text.lines(ROWS, rule=True).splitlines()[:2] == ["name    bytes", "------  -----"]


def test_markdown_escapes_what_would_end_a_cell():
    assert text.markdown(ROWS[0], ROWS[1:], right=(1,)).splitlines() == [
        "| name | bytes |",
        "| --- | ---: |",
        r"| a\|b | 1 |",
        "| longer | 1,000 |",
    ]


def test_markdown_that_is_padded_is_aligned_in_its_source_too():
    assert text.markdown(ROWS[0], ROWS[1:], right=(1,), padded=True).splitlines() == [
        "| name   | bytes |",
        "|--------|------:|",
        r"| a\|b   |     1 |",
        "| longer | 1,000 |",
    ]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (999_999, "1,000 kB"),
        (58_340, "58.3 kB"),
        (2_412_345, "2.41 MB"),
        (8e9, "8.00 GB"),
        (3_217_000_000_000, "3,217 GB"),
    ],
)
def test_file_size_has_three_digits_and_never_an_exponent(number, expected):
    assert text.file_size(number) == expected
