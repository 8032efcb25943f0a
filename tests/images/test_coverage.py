"""What a quantized input holds, against what a preprocessing brings images to."""

import pytest

from keras_amalgam import Preprocessing
from keras_amalgam.images.coverage import check_covered, range_of

LEVELS, SIGNED, UNIT, PLUS_MINUS = (0.0, 255.0), (-128.0, 127.0), (0.0, 1.0), (-1.0, 0.9922)
IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
RAW, TO_UNIT = Preprocessing(scale=1.0), Preprocessing()
TO_PLUS_MINUS = Preprocessing(scale=1 / 127.5, mean=1.0)


@pytest.mark.parametrize(
    ("covers", "before", "advice"),
    [
        (LEVELS, IMAGENET, r"Pass Preprocessing\(…, scale=1.0\) without mean and std"),
        (LEVELS, TO_UNIT, "scale=1.0"),
        (LEVELS, TO_PLUS_MINUS, "scale=1.0"),
        (UNIT, RAW, "scale=1/255"),
        (PLUS_MINUS, RAW, r"scale=1/127.5, mean=1.0"),
        ((-2.12, 2.64), RAW, "Pass the normalisation that it was quantized with"),
    ],
)
def test_images_that_an_input_hardly_holds_are_refused(covers, before, advice):
    says = f"^'a' would see next to nothing.* covers {covers[0]:.4g} to {covers[1]:.4g}: .*{advice}"
    with pytest.raises(ValueError, match=says):
        check_covered(covers, before, "'a'")


@pytest.mark.parametrize(
    ("covers", "before"),
    [
        (LEVELS, RAW),
        (UNIT, TO_UNIT),
        (PLUS_MINUS, TO_PLUS_MINUS),
        ((-2.12, 2.64), IMAGENET),
        # Images of the calibration that were neither black nor white.
        ((-1.8, 2.2), IMAGENET),
        ((0.0, 0.6), TO_UNIT),
        (SIGNED, Preprocessing(scale=1.0, mean=128.0)),
    ],
)
def test_images_that_an_input_holds_are_let_through(covers, before):
    assert check_covered(covers, before, "'a'") is None


def test_images_that_are_cut_off_by_more_than_half_are_warned_of():
    with pytest.warns(UserWarning, match="'a' cuts off more than half .*-2.118 to 2.64.*0 to 1"):
        check_covered(UNIT, IMAGENET, "'a'")


def test_usual_ranges_are_known_by_what_is_covered():
    ranges = [range_of(covers) for covers in (LEVELS, UNIT, PLUS_MINUS, SIGNED)]
    assert ranges == ["0..255", "0..1", "-1..1", None]
