import numpy as np
import pytest

from keras_amalgam.evaluation import class_retrieval, common_space
from keras_amalgam.evaluation.embedding import MAX_POINTS, unit_rows

CLASSES = np.array(["a", "b", "c", "d"])


def _features(per_class: int, spread: float, seed: int):
    """Four tight classes, two of each task; the student beside the teachers."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(4, 8))
    index = np.repeat(np.arange(4), per_class)
    clouds = {
        name: centers[index] + spread * rng.normal(size=(len(index), 8))
        for name in ("student", "left", "right")
    }
    return clouds, np.where(index < 2, "left", "right"), CLASSES[index], index


def test_common_space_keeps_neighbours_together():
    clouds, tasks, classes, _ = _features(20, 0.05, 0)

    space = common_space(clouds, tasks, classes, seed=3)

    distances = np.linalg.norm(space.points[:, None] - space.points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    assert np.mean(space.label[nearest] == space.label) > 0.98
    assert len(space.points) == 3 * 80


def test_common_space_is_the_same_for_the_same_seed():
    clouds, tasks, classes, _ = _features(8, 0.2, 1)

    one, same = (common_space(clouds, tasks, classes, seed=4) for _ in range(2))
    other = common_space(clouds, tasks, classes, seed=5)

    np.testing.assert_array_equal(one.points, same.points)
    assert np.abs(one.points - other.points).max() > 1.0


def test_common_space_shows_a_teacher_on_its_own_domain_only():
    clouds, tasks, classes, _ = _features(6, 0.1, 2)

    space = common_space(clouds, tasks, classes, domains={"left": "left", "right": "right"})

    assert set(space.task[space.model == "left"]) == {"left"}
    assert set(space.task[space.model == "student"]) == {"left", "right"}
    assert np.sum(space.model == "student") == 24


@pytest.mark.slow
def test_common_space_draws_evenly_from_the_classes_when_there_are_too_many_images():
    clouds, tasks, classes, _ = _features(100, 0.1, 3)

    space = common_space(clouds, tasks, classes)

    assert len(space.points) == MAX_POINTS
    names, counts = np.unique(space.label[space.model == "student"], return_counts=True)
    assert list(names) == list(CLASSES)
    np.testing.assert_array_equal(counts, [50, 50, 50, 50])


def test_common_space_refuses_models_that_saw_other_images():
    clouds, tasks, classes, _ = _features(6, 0.1, 4)
    with pytest.raises(ValueError, match="same images and units"):
        common_space(clouds | {"left": clouds["left"][:-1]}, tasks, classes)
    with pytest.raises(ValueError, match="Too few points"):
        common_space({"student": clouds["student"][:5]}, tasks[:5], classes[:5])


def test_class_retrieval_equals_a_plain_search():
    clouds, _, classes, index = _features(10, 0.9, 5)
    student, teacher = unit_rows(clouds["student"]), unit_rows(clouds["left"])
    hits = 0
    for i in range(len(index)):
        others = [j for j in range(len(index)) if j != i]
        best = max(others, key=lambda j: student[i] @ teacher[j])
        hits += index[best] == index[i]

    retrieval = class_retrieval(clouds["student"], clouds["left"], classes)

    assert retrieval == pytest.approx(hits / len(index))
    assert 0.3 < retrieval < 0.95


def test_class_retrieval_is_chance_for_independent_spaces_and_one_for_a_common_one():
    clouds, _, classes, _ = _features(50, 0.01, 6)
    noise = np.random.default_rng(7).normal(size=(2, 800, 8))
    names = np.repeat(CLASSES, 200)

    assert class_retrieval(clouds["student"], clouds["left"], classes) == 1.0
    assert class_retrieval(noise[0], noise[1], names) == pytest.approx(0.25, abs=0.06)


def test_unit_rows_flattens_maps_and_keeps_zero_rows():
    maps = np.arange(24.0).reshape(2, 2, 2, 3) * np.array([0, 1])[:, None, None, None]

    rows = unit_rows(maps)

    np.testing.assert_array_equal(rows[0], np.zeros(12))
    np.testing.assert_allclose(rows[1], maps[1].ravel() / np.linalg.norm(maps[1]), rtol=1e-6)
