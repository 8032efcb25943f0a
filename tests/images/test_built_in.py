"""What may stand before a normalisation that is built in, and what is refused."""

import numpy as np
import pytest

from keras_amalgam import Preprocessing
from keras_amalgam.images.built_in import (
    BuiltIn,
    SeveralWays,
    check_normalised_once,
    implied_preprocessing,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def built_in(mean, std, order=(0, 1, 2), learned=False):
    mean, std = np.broadcast_to(mean, 3), np.broadcast_to(std, 3)
    return BuiltIn(tuple(1 / std), tuple(-mean / std), order, learned)


UNIT = built_in(0.0, 255.0)
PLUS_MINUS = built_in(127.5, 127.5)
CAFFE = built_in((123.68, 116.779, 103.939), 1.0, (2, 1, 0))
CAFFE_OF_BGR = built_in((103.939, 116.779, 123.68), 1.0)
OF_OPENCV = built_in((103.939, 116.779, 123.68), 60.0, (2, 1, 0))
IMAGENET = built_in(MEAN, STD)
TIMES_255 = built_in(0.0, 1 / 255)
CLIP = built_in(-1.0, 2.0)
FLIP = built_in(0.0, 1.0, (2, 1, 0))
STATISTICS = built_in((0.3, 0.2, 0.25), 0.5, learned=True)

NOTHING = built_in(0.0, 1.0)
DARK_UNIT = built_in(0.06, 0.12)
DARK = built_in(12.0, 14.0)
OF_PLUS_MINUS = built_in(-0.1, 0.5)
# torchvision's Inception: from ImageNet's mean and std to -1..1.
RESTRETCHED = built_in((0.0655, 0.196, 0.418), (2.18, 2.23, 2.22))
ENSEMBLE = SeveralWays((CAFFE, UNIT))
SKIP = SeveralWays((NOTHING, UNIT))
SKIP_OF_UNIT = SeveralWays((NOTHING, IMAGENET))
UNTOLD = SeveralWays((NOTHING, OF_PLUS_MINUS))

RAW = Preprocessing(scale=1.0)
TO_UNIT = Preprocessing()
TO_PLUS_MINUS = Preprocessing(scale=1 / 127.5, mean=1.0)
STANDARDISED = Preprocessing(mean=MEAN, std=STD)
MINUS_MEAN = Preprocessing(scale=1.0, mean=(103.939, 116.779, 123.68))
BGR = Preprocessing(scale=1.0, channels="bgr")


@pytest.mark.parametrize(
    ("inside", "before", "says"),
    [
        (UNIT, TO_UNIT, "rescaled twice"),
        (UNIT, Preprocessing(scale=1.0, std=255.0), "rescaled twice"),
        (PLUS_MINUS, TO_PLUS_MINUS, "rescaled twice"),
        (PLUS_MINUS, STANDARDISED, "rescaled twice"),
        (PLUS_MINUS, MINUS_MEAN, "centred twice"),
        (CAFFE, TO_UNIT, "rescaled twice"),
        (CAFFE, MINUS_MEAN, "centred twice"),
        (IMAGENET, RAW, "in another range than it takes"),
        (IMAGENET, STANDARDISED, "centred twice"),
        (IMAGENET, TO_PLUS_MINUS, "centred twice"),
        (TIMES_255, RAW, "in another range than it takes"),
        (TIMES_255, TO_PLUS_MINUS, "centred twice"),
        (CLIP, RAW, "in another range than it takes"),
        (CLIP, TO_UNIT, "in another range than it takes"),
        (STATISTICS, RAW, "in another range than it takes"),
        (CAFFE, BGR, "colours turned twice"),
        (DARK_UNIT, Preprocessing(mean=0.06, std=0.12), "centred twice"),
        (DARK_UNIT, STANDARDISED, "centred twice"),
        (DARK_UNIT, RAW, "in another range than it takes"),
        (DARK_UNIT, Preprocessing(std=0.12), "in another range than it takes"),
        (DARK, Preprocessing(scale=1.0, mean=12.0, std=14.0), "rescaled twice"),
        (DARK, Preprocessing(scale=1.0, mean=12.0), "centred twice"),
        (DARK, TO_UNIT, "rescaled twice"),
        (OF_PLUS_MINUS, Preprocessing(scale=1 / 127.5, mean=0.9, std=0.5), "normalised twice"),
        (OF_PLUS_MINUS, STANDARDISED, "normalised twice"),
        (OF_PLUS_MINUS, RAW, "in another range than it takes"),
        (CLIP, STANDARDISED, "in another range than it takes"),
        (ENSEMBLE, TO_UNIT, "normalised twice"),
        (ENSEMBLE, STANDARDISED, "normalised twice"),
        (ENSEMBLE, MINUS_MEAN, "normalised twice"),
        (SKIP, Preprocessing(scale=1.0, mean=123.0), "normalised twice"),
        (SKIP_OF_UNIT, STANDARDISED, "normalised twice"),
        (SKIP_OF_UNIT, RAW, "in another range than it takes"),
        (UNTOLD, STANDARDISED, "normalised twice"),
        (FLIP, Preprocessing(mean=MEAN, std=STD, channels="bgr"), "colours turned twice"),
    ],
)
def test_what_is_done_twice_or_left_out_is_refused(inside, before, says):
    with pytest.raises(ValueError, match=f"^Teacher 'a' would have its .*{says}. Received: "):
        check_normalised_once(inside, before, "Teacher 'a'")


@pytest.mark.parametrize("inside", [CAFFE_OF_BGR, OF_OPENCV])
def test_order_of_colours_that_the_numbers_contradict_must_be_said(inside):
    with pytest.raises(ValueError, match="order of colours must be said for Teacher 'a'"):
        check_normalised_once(inside, RAW, "Teacher 'a'")
    for channels in ("rgb", "bgr"):
        said = Preprocessing(scale=1.0, channels=channels)
        assert check_normalised_once(inside, said, "Teacher 'a'") is None


@pytest.mark.parametrize(
    ("inside", "before"),
    [
        (None, STANDARDISED),
        (UNIT, RAW),
        (PLUS_MINUS, RAW),
        (CAFFE, RAW),
        # Half of it before, half of it inside.
        (UNIT, Preprocessing(scale=1.0, mean=123.0)),
        (IMAGENET, TO_UNIT),
        (TIMES_255, TO_UNIT),
        (CLIP, TO_PLUS_MINUS),
        (FLIP, STANDARDISED),
        (built_in(0.0, 0.5), STANDARDISED),
        (RESTRETCHED, STANDARDISED),
        (DARK_UNIT, TO_UNIT),
        (DARK, RAW),
        # Nothing tells which of the two it is.
        (OF_PLUS_MINUS, TO_PLUS_MINUS),
        (OF_PLUS_MINUS, TO_UNIT),
        (ENSEMBLE, RAW),
        (SKIP, RAW),
        (SKIP_OF_UNIT, TO_UNIT),
        (UNTOLD, TO_PLUS_MINUS),
        (SeveralWays((NOTHING, STATISTICS)), STANDARDISED),
        # Bright images in -1..1 have a mean above 0, too.
        (STATISTICS, TO_PLUS_MINUS),
        (CAFFE_OF_BGR, BGR),
        # Inside, images of OpenCV become RGB.
        (OF_OPENCV, BGR),
    ],
)
def test_what_fits_is_let_through(inside, before):
    assert check_normalised_once(inside, before, "Teacher 'a'") is None


@pytest.mark.parametrize(
    ("inside", "scale", "mean"),
    [(UNIT, 1.0, 0.0), (CAFFE, 1.0, 0.0), (IMAGENET, 1 / 255, 0.0), (TIMES_255, 1 / 255, 0.0),
     (CLIP, 1 / 127.5, 1.0), (DARK, 1.0, 0.0), (DARK_UNIT, 1 / 255, 0.0), (ENSEMBLE, 1.0, 0.0),
     (SKIP_OF_UNIT, 1 / 255, 0.0)],
)  # fmt: skip
def test_preprocessing_is_implied_where_the_numbers_tell_it_and_fits(inside, scale, mean):
    implied = implied_preprocessing(inside, "It")
    assert implied == Preprocessing(scale=scale, mean=mean)
    assert check_normalised_once(inside, implied, "It") is None


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        (None, "It does not rescale inside, so it must be said"),
        (FLIP, "It does `BGR: pixels` itself, which does not tell the range"),
        (STATISTICS, "which does not tell the range of its images"),
        (OF_PLUS_MINUS, "which does not tell the range of its images"),
        (UNTOLD, "It does `pixels; .*` itself, which does not tell the range of its images"),
        (CAFFE_OF_BGR, r"the order blue, green, red \(channels='bgr'\)"),
    ],
)
def test_preprocessing_that_nothing_tells_must_be_said(inside, says):
    with pytest.raises(ValueError, match=says):
        implied_preprocessing(inside, "It")


@pytest.mark.parametrize(
    ("inside", "is_bgr"),
    [(CAFFE, False), (IMAGENET, False), (CAFFE_OF_BGR, True), (OF_OPENCV, True), (UNIT, None)],
)
def test_imagenets_means_tell_the_order_of_colours(inside, is_bgr):
    assert inside.takes_bgr is is_bgr
