"""Which canvas shows every teacher what its authors did; the reference is Pillow, at full size."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.images.canvas import Canvas

PHOTOGRAPHS = [(480, 640), (640, 480), (700, 500)]
ONE_SHAPE = [(300, 400), (600, 800), (75, 100)]


def teacher(name, size, cuts=False, crop_fraction=1.0, channels=3):
    inputs = keras.Input((*(size or (None, None)), channels))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    preprocessing = ka.Preprocessing(
        size=size, crop_fraction=crop_fraction, crop_to_aspect_ratio=cuts
    )
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    return ka.Teacher(model, name, ["a", "b"], preprocessing=preprocessing)


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize(
    ("teachers", "student", "expected"),
    [
        ([("a", (160, 160))], (64, 64), (160, 160, 3, "resize")),
        ([("a", (160, 160)), ("b", (96, 96))], (64, 64), (160, 160, 3, "resize")),
        ([("a", (224, 224), False, 0.875)], (64, 64), (256, 256, 3, "resize")),
        ([("a", (100, 150)), ("b", (120, 80))], (64, 64), (120, 150, 3, "resize")),
        ([("a", (32, 32))], (96, 96), (96, 96, 3, "resize")),
        ([("a", (224, 224), True, 0.875), ("b", (64, 64), True)], (96, 96), (256, 256, 3, "crop")),
        ([("a", (96, 128), True)], (48, 64), (96, 128, 3, "crop")),
    ],
)
@pytest.mark.parametrize("sizes", [None, PHOTOGRAPHS])
def test_canvas_is_as_large_as_the_largest_size_that_anybody_resizes_to(
    teachers, student, expected, sizes
):
    known = [teacher(*settings) for settings in teachers]
    assert data.canvas_for(known, student, sizes=sizes) == expected


def test_canvas_has_the_channels_that_are_asked_for():
    assert data.canvas_for([teacher("a", (40, 40))], (8, 8), 1) == (40, 40, 1, "resize")


@pytest.mark.parametrize(
    ("cuts", "sizes", "expected"),
    [
        (False, [(20, 30), (25, 24)], (25, 30)),
        (False, [(20, 500), (30, 400)], (30, 160)),
        (True, [(20, 30), (25, 24)], (24, 24)),
        (True, [(20, 500), (30, 28)], (28, 28)),
        (True, [(20, 500), (400, 400)], (160, 160)),
    ],
)
def test_canvas_is_not_larger_than_the_photographs(cuts, sizes, expected):
    known = [teacher("a", (160, 160), cuts)]
    assert data.canvas_for(known, (96, 96), sizes=sizes)[:2] == expected


MIXED = [("cutter", (224, 224), True, 0.875), ("squeezer", (160, 160))]
OTHER_SHAPES = [("wide", (90, 160), True), ("square", (128, 128), True)]


@pytest.mark.parametrize("settings", [MIXED, OTHER_SHAPES])
@pytest.mark.parametrize("sizes", [None, PHOTOGRAPHS])
def test_photographs_of_different_shapes_are_refused_where_teachers_differ(settings, sizes):
    known = [teacher(*one) for one in settings]
    with pytest.raises(ValueError) as refused:
        data.canvas_for(known, (64, 64), sizes=sizes)
    for one in known:
        assert f"Teacher {one.name!r}" in str(refused.value)
    assert "'crop')` shows them without their sides" in str(refused.value)


def test_a_student_of_another_shape_than_cutting_teachers_is_refused():
    with pytest.raises(ValueError, match="a student of 64 × 64"):
        data.canvas_for([teacher("wide", (90, 160), True)], (64, 64))


@pytest.mark.parametrize(
    ("settings", "expected"), [(MIXED, (256, 341)), (OTHER_SHAPES, (128, 171))]
)
def test_photographs_of_one_shape_keep_it_where_teachers_differ(settings, expected):
    known = [teacher(*one) for one in settings]
    assert data.canvas_for(known, (64, 64), sizes=ONE_SHAPE) == (*expected, 3, "resize")
    assert data.canvas_for(known, (64, 64), sizes=[(60, 80)]) == (60, 80, 3, "resize")


def test_a_teacher_of_any_size_is_refused_until_something_says_its_size():
    with pytest.raises(ValueError, match=r"Teacher 'open' takes images of any size.*`size`"):
        data.canvas_for([teacher("open", None)], (64, 64))


@pytest.mark.parametrize("sizes", [[], [(3, 4, 5)], [(0, 4)], [7]])
def test_sizes_that_are_no_pairs_are_refused(sizes):
    with pytest.raises(ValueError, match=r"pairs \(height, width\)"):
        data.canvas_for([teacher("a", (8, 8))], (8, 8), sizes=sizes)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("canvas", "named"),
    [
        ((64, 64, 3), "Teacher 'fine'"),
        ((160, 100, 3), "Teacher 'fine'"),
        ((160, 160, 3, "crop"), "Teacher 'cropped'"),
        ((256, 256, 3), "The student"),
    ],
)
@pytest.mark.parametrize("sizes", [None, PHOTOGRAPHS])
def test_a_canvas_too_small_for_somebody_is_refused(canvas, named, sizes):
    known = [teacher("fine", (160, 160)), teacher("cropped", (224, 224), crop_fraction=0.875)]
    with pytest.raises(ValueError, match=f"too small: {named} resizes photographs to"):
        data.check_canvas(canvas, known, (320, 320), sizes)


@pytest.mark.matrix(keep=2)
@pytest.mark.parametrize(
    ("canvas", "photograph", "is_refused"),
    [
        ((64, 64, 3), (64, 64), False),
        ((64, 64, 3), (65, 40), True),
        ((64, 160, 3), (64, 9000), False),
        ((64, 64, 3, "crop"), (64, 9000), False),
        ((64, 64, 3, "crop"), (65, 9000), True),
        ((64, 64, 3, "pad"), (64, 9000), True),
        ((64, 64, 3, "pad"), (64, 10), False),
    ],
)
def test_a_small_canvas_is_welcome_where_it_shrinks_no_photograph(canvas, photograph, is_refused):
    known = [teacher("fine", (160, 160))]
    if is_refused:
        with pytest.raises(ValueError, match="too small"):
            data.check_canvas(canvas, known, (32, 32), [(10, 10), photograph])
    else:
        data.check_canvas(canvas, known, (32, 32), [(10, 10), photograph])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("resize", ["Teacher 'cutter' sees photographs squeezed on this canvas."]),
        ("crop", ["Teacher 'squeezer' squeezes photographs whole, and sees them without their"]),
        ("pad", ["Teacher 'cutter' sees photographs between", "Teacher 'squeezer' sees"]),
    ],
)
def test_a_chosen_canvas_says_who_sees_photographs_in_another_shape(method, expected):
    known = [teacher(*one) for one in MIXED]
    said = data.check_canvas((256, 256, 3, method), known, (64, 64), PHOTOGRAPHS)
    assert len(said) == len(expected)
    for sentence, start in zip(said, expected, strict=True):
        assert sentence.startswith(start)
    assert data.check_canvas((256, 256, 3, method), known, (64, 64), [(300, 300)]) == []


def test_a_chosen_canvas_of_another_shape_than_a_cutting_teachers_is_said():
    known = [teacher(*one) for one in OTHER_SHAPES]
    (said,) = data.check_canvas((160, 160, 3, "crop"), known, (64, 64), PHOTOGRAPHS)
    assert said.startswith("Teacher 'wide' cuts photographs to the shape of 90 × 160, and sees")


def photograph(size):
    """A bright disc on a slope, large enough that no resizing matters, and off the centre."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype("float32")
    slope = 120 * x / width + 60 * y / height
    distance = np.hypot(y - 0.45 * height, x - 0.55 * width) / (0.25 * min(size))
    disc = np.clip(8 * (1 - distance), 0, 1)
    grey = slope * (1 - disc) + 250 * disc
    return np.stack([grey, 255 - grey, slope], axis=-1).round().astype("uint8")


def by_pillow(pixels, preprocessing):
    """What the authors' own code would make of a photograph's file."""
    image, (height, width) = Image.fromarray(pixels), preprocessing.size_before_crop
    if preprocessing.crop_to_aspect_ratio:
        kept = min(image.width, image.height * width / height)
        other = min(image.height, image.width * height / width)
        left, top = (image.width - kept) / 2, (image.height - other) / 2
        box = (left, top, left + kept, top + other)
    else:
        box = (0, 0, image.width, image.height)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box), "float32")
    rows, columns = preprocessing.size
    top, left = (height - rows) // 2, (width - columns) // 2
    return resized[top : top + rows, left : left + columns]


def as_shown(pixels, spec, preprocessing):
    """What a teacher makes of the photograph on a canvas, in grey levels."""
    images = keras.Input((None, None, 3))
    seen = keras.Model(images, preprocessing.build(images, 3))
    return 255 * np.asarray(seen(Canvas.parse(spec)(pixels)[None]))[0]


LOOKERS = {
    "squeezing": [("a", (96, 96)), ("b", (40, 64)), ("c", (64, 64), False, 0.875)],
    "cutting": [("a", (96, 96), True), ("b", (56, 56), True, 0.875), ("c", (64, 64), True)],
    "cutting, not square": [("a", (60, 90), True), ("b", (40, 60), True, 0.8)],
}


@pytest.mark.matrix
@pytest.mark.parametrize("size", [(480, 640), (640, 200), (333, 333), (70, 90)])
@pytest.mark.parametrize("kind", LOOKERS)
def test_every_teacher_sees_on_its_canvas_what_its_authors_showed_it(kind, size):
    known = [teacher(*settings) for settings in LOOKERS[kind]]
    student = known[0].preprocessing.size
    spec = data.canvas_for(known, student, sizes=[size, (300, 300)])
    pixels = photograph(size)
    for one in known:
        expected = by_pillow(pixels, one.preprocessing)
        assert np.abs(as_shown(pixels, spec, one.preprocessing) - expected).mean() < 1.5


@pytest.mark.matrix
@pytest.mark.parametrize("kind", LOOKERS)
def test_comparison_with_the_authors_pipeline_sees_the_other_way_of_fitting(kind):
    known = [teacher(*settings) for settings in LOOKERS[kind]]
    *start, method = data.canvas_for(known, known[0].preprocessing.size)
    wrong = (*start, "crop" if method == "resize" else "resize")
    pixels = photograph((480, 1000))
    for one in known:
        expected = by_pillow(pixels, one.preprocessing)
        assert np.abs(as_shown(pixels, wrong, one.preprocessing) - expected).mean() > 6


@pytest.mark.parametrize("settings", [MIXED, OTHER_SHAPES])
def test_photographs_of_one_shape_are_right_for_teachers_that_differ(settings):
    known = [teacher(*one) for one in settings]
    spec = data.canvas_for(known, (64, 64), sizes=ONE_SHAPE)
    pixels = photograph((600, 800))
    for one in known:
        expected = by_pillow(pixels, one.preprocessing)
        assert np.abs(as_shown(pixels, spec, one.preprocessing) - expected).mean() < 1.5
    squeezed = as_shown(pixels, (256, 256, 3, "resize"), known[0].preprocessing)
    assert np.abs(squeezed - by_pillow(pixels, known[0].preprocessing)).mean() > 4


@pytest.mark.parametrize(("method", "is_round"), [("crop", True), ("resize", False)])
def test_a_circle_stays_one_for_a_teacher_that_cuts(method, is_round):
    one = teacher("cutter", (96, 96), True)
    spec = data.canvas_for([one], (48, 48), sizes=PHOTOGRAPHS)
    assert spec[-1] == "crop"
    seen = as_shown(photograph((480, 640)), (*spec[:3], method), one.preprocessing)
    disc = seen[..., 0] > 200
    height, width = disc.any(axis=1).sum(), disc.any(axis=0).sum()
    assert (abs(int(height) - int(width)) <= 2) is is_round
