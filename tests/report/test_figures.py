"""What the drawings say: one colour for one task, and names that can be read."""

import itertools
import re

import numpy as np
import pytest

from keras_amalgam.evaluation import CommonSpace
from keras_amalgam.report import Pictures, Report, figures, render_page

CENTERS = {
    "coat": (0.0, 0.0),
    "pullover": (0.3, 0.2),
    "shirt": (-0.2, 0.1),
    "ankle boot": (60.0, -50.0),
    "sandal": (59.0, -49.0),
    "bag": (-60.0, 50.0),
}


def space_of(rows):
    """A common space of rows `(model, task, label, x, y)`."""
    model, task, label, x, y = zip(*rows, strict=True)
    points = np.column_stack([x, y])
    return CommonSpace(points, np.array(model), np.array(task), np.array(label), seed=0)


def space_around(centers):
    """Four points of the student and of the teacher at the same distances from each centre."""
    return space_of(
        (model, "fashion", name, x + dx, y + dy)
        for name, (x, y) in centers.items()
        for model in ("student", "fashion")
        for dx, dy in ((3, 3), (3, -3), (-3, 3), (-3, -3))
    )


def named_places(svg):
    """Where the names' centres stand in the drawing, in its units."""
    found = re.findall(r'<text [^>]*?x="([\d.-]+)" y="([\d.-]+)"[^>]*>([^<]*)</text>', svg)
    assert len(found) == svg.count("<text")
    return {name: np.array([float(x), float(y)]) for x, y, name in found}


def colours(page, section):
    """Series colour of each entry of a section's legend."""
    text = page[page.index(f'<section id="{section}">') :]
    legend = text[text.index('<ul class="legend">') : text.index("</ul>")]
    entries = re.findall(r"<li>(.*?)</li>", legend)
    shown = {re.sub("<[^>]*>", "", entry): re.search(r"series-\d", entry) for entry in entries}
    return {
        name.strip("■").removesuffix(" images"): color[0] for name, color in shown.items() if color
    }


def points_of(svg, color):
    """How many markers have a colour; simple ones are references, triangles are paths."""
    return len(re.findall(rf"<(?:use|path d)[^>]*stroke: var\(--{color}\)", svg))


def test_task_has_one_colour_on_the_page_in_the_order_of_the_reports_tasks(full_content, pictures):
    space = pictures.space
    order = np.argsort(space.task == "digits", kind="stable")[:-7]  # fashion first, digits fewer
    later = CommonSpace(
        space.points[order], space.model[order], space.task[order], space.label[order], seed=5
    )
    history = full_content["history"]
    full_content["history"] = dict(sorted(history.items(), key=lambda item: "digits" in item[0]))

    page = render_page(Report.from_dict(full_content), Pictures([], later))

    expected = {"digits": "series-0", "fashion": "series-1"}
    assert colours(page, "curves") == colours(page, "space") == expected
    drawing = page[page.index("All test images shown") : page.index("digits, by class")]
    assert points_of(drawing, "series-0") == (later.task == "digits").sum()
    assert points_of(drawing, "series-1") == (later.task == "fashion").sum()
    curve = page[page.index("<b>soft targets</b>") : page.index('<section id="space">')]
    lines = re.findall(r"stroke: var\(--(series-\d)\)", curve[: curve.index("</figure>")])
    assert lines == ["series-1", "series-0"]  # as the history has them


def test_models_accuracies_have_no_tasks_colour(page):
    accuracy = page[page.index('<section id="accuracy">') : page.index("</figure>")]
    assert "var(--ink)" in accuracy
    assert "series-" not in accuracy


def test_class_names_do_not_overlap_where_classes_lie_together():
    places = named_places(figures.space_by_class(space_around(CENTERS), "student", "fashion"))
    assert set(places) == set(CENTERS)
    for one, other in itertools.combinations(CENTERS, 2):
        across, upright = np.abs(places[one] - places[other])
        # A letter is at least half as wide as the font, of 9 units, is high.
        assert upright >= 9 or across >= 9 * 0.5 * (len(one) + len(other)) / 2, (one, other)


def test_class_names_stay_near_their_centres_and_keep_their_order_in_height():
    places = named_places(figures.space_by_class(space_around(CENTERS), "student", "fashion"))
    assert places["pullover"][1] < places["shirt"][1] < places["coat"][1]
    alone = {}
    for name in CENTERS:
        names = {other: other if other == name else "." for other in CENTERS}
        space = space_around(CENTERS)
        label = np.array([names[label] for label in space.label])
        only = CommonSpace(space.points, space.model, space.task, label, seed=0)
        alone[name] = named_places(figures.space_by_class(only, "student", "fashion"))[name]
    moved = {name: np.abs(places[name] - alone[name]) for name in CENTERS}
    assert max(distance[0] for distance in moved.values()) < 0.01
    assert max(distance[1] for distance in moved.values()) < 2 * 9 * 1.5
    assert moved["bag"][1] < 0.01


def test_class_names_stay_inside_the_drawing():
    centers = {"a rather long name of a class": (-9.0, 0.0), "another": (9.0, 9.0), "b": (0, 0)}
    places = named_places(figures.space_by_class(space_around(centers), "student", "fashion"))
    for name, (x, y) in places.items():
        assert 9 * 0.25 * len(name) < x < 316.8 - 9 * 0.25 * len(name)
        assert 0 < y < 302.4


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 60])
def test_class_names_are_placed_alike_each_time_however_many(num_classes):
    centers = {f"class {i}": (i % 7, i % 5) for i in range(num_classes)}
    drawings = {
        figures.space_by_class(space_around(centers), "student", "fashion") for _ in range(2)
    }
    assert len(drawings) == 1
    assert len(named_places(drawings.pop())) == num_classes
