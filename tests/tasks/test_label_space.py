"""The union of the teachers' classes, and who speaks for one that several know."""

import numpy as np
import pytest
import scipy.special

from keras_amalgam import LabelSpace

OVERLAPPING = {"pets": ["cat", "dog", "hamster"], "farm": ["cow", "dog"], "wild": ["wolf", "cat"]}


def random_logits(class_names, batch=5, scale=3.0):
    rng = np.random.default_rng(0)
    return {
        task: rng.normal(scale=scale, size=(batch, len(names))).astype("float32")
        for task, names in class_names.items()
    }


def log_mean_exp(space, logits):
    """Class by class, over the tasks that name it."""
    columns = []
    for name in space.names:
        spoken = [
            logits[task][:, names.index(name)]
            for task, names in space.class_names.items()
            if name in names
        ]
        columns.append(scipy.special.logsumexp(spoken, axis=0) - np.log(len(spoken)))
    return np.stack(columns, axis=-1)


def test_disjoint_classes_stand_one_task_after_the_other():
    space = LabelSpace({"pets": ["cat", "dog"], "cars": ["vw", "audi", "fiat"]})
    assert space.names == ("cat", "dog", "vw", "audi", "fiat")
    assert (len(space), space.tasks) == (5, ("pets", "cars"))
    np.testing.assert_array_equal(space.indices["cars"], [2, 3, 4])


def test_disjoint_logits_are_concatenated_in_the_space_s_order_whatever_the_dict_s():
    names = {"pets": ["cat", "dog"], "cars": ["vw", "audi", "fiat"]}
    logits = random_logits(names)
    joint = LabelSpace(names).join(dict(reversed(logits.items())))
    np.testing.assert_array_equal(joint, np.concatenate(list(logits.values()), axis=-1))


def test_overlapping_class_stands_once_where_it_is_named_first():
    space = LabelSpace(OVERLAPPING)
    assert space.names == ("cat", "dog", "hamster", "cow", "wolf")
    assert space.speakers("dog") == ("pets", "farm")
    assert space.speakers("cat") == ("pets", "wild")
    assert space.speakers("cow") == ("farm",)
    assert space.speakers("whale") == ()


def test_overlapping_logits_are_joined_by_log_mean_exp():
    space, logits = LabelSpace(OVERLAPPING), random_logits(OVERLAPPING)
    np.testing.assert_allclose(space.join(logits), log_mean_exp(space, logits), atol=1e-5)


def test_two_that_agree_say_what_each_says():
    names = ["cat", "dog", "cow"]
    logits = random_logits({"first": names})["first"]
    space = LabelSpace({"first": names, "second": names})
    joint = space.join({"first": logits, "second": logits})
    np.testing.assert_allclose(joint, logits, atol=1e-6)


def test_second_speaker_that_is_sure_it_is_not_takes_at_most_log_two():
    space = LabelSpace({"first": ["cat", "dog"], "second": ["cat", "cow"]})
    joint = space.join({"first": np.array([[5.0, 0.0]]), "second": np.array([[-1e4, 0.0]])})
    np.testing.assert_allclose(joint, [[5.0 - np.log(2), 0.0, 0.0]], atol=1e-6)


def test_permuted_names_mean_the_same_classes():
    order = [2, 0, 1]
    names = ["cat", "dog", "cow"]
    permuted = [names[i] for i in order]
    logits = random_logits({"first": names, "second": names})
    straight = LabelSpace({"first": names, "second": names}).join(logits)
    crossed = LabelSpace({"first": names, "second": permuted}).join(
        {"first": logits["first"], "second": logits["second"][:, order]}
    )
    np.testing.assert_allclose(crossed, straight, atol=1e-6)
    unpermuted = LabelSpace({"first": names, "second": permuted}).join(logits)
    assert np.abs(np.asarray(unpermuted) - straight).max() > 0.1


@pytest.mark.parametrize("names", [OVERLAPPING, {"a": ["x", "y"], "b": ["z", "w"]}], ids=len)
def test_shares_of_a_class_sum_to_one(names):
    space = LabelSpace(names)
    shares = np.stack([space.share(task) for task in space.tasks])
    np.testing.assert_allclose(shares.sum(0), np.ones(len(space)))
    for row, task in zip(shares, space.tasks, strict=True):
        spoken = {name for name, share in zip(space.names, row, strict=True) if share > 0}
        assert spoken == set(names[task])


def test_share_is_one_over_the_speakers():
    np.testing.assert_array_equal(LabelSpace(OVERLAPPING).share("pets"), [0.5, 0.5, 1, 0, 0])
    np.testing.assert_array_equal(LabelSpace(OVERLAPPING).share("wild"), [0.5, 0, 0, 0, 1])


def test_values_are_spread_to_their_classes_and_the_rest_filled():
    space = LabelSpace(OVERLAPPING)
    spread = space.spread("farm", np.array([[1.0, 2.0], [3.0, 4.0]]), fill=-7.0)
    np.testing.assert_array_equal(spread, [[-7, 2, -7, 1, -7], [-7, 4, -7, 3, -7]])


@pytest.mark.parametrize("names", [OVERLAPPING, {"a": ["x", "y"], "b": ["z", "w"]}], ids=len)
def test_extreme_half_precision_logits_are_joined_in_float32(names):
    logits = {task: np.full((1, len(n)), 1e4, "float16") for task, n in names.items()}
    joint = np.asarray(LabelSpace(names).join(logits))
    assert joint.dtype == np.float32
    np.testing.assert_allclose(joint, 1e4, rtol=1e-6)


def test_missing_task_and_empty_space_are_refused():
    with pytest.raises(ValueError, match=r"Missing: \['farm'\]. Received: \['pets', 'wild'\]"):
        LabelSpace(OVERLAPPING).join({"pets": np.zeros((1, 3)), "wild": np.zeros((1, 2))})
    with pytest.raises(ValueError, match="at least one task"):
        LabelSpace({})
    with pytest.raises(ValueError, match="each of its classes once. Received: .*task 'pets'"):
        LabelSpace({"pets": ["cat", "dog", "cat"]})
    with pytest.raises(TypeError, match="must be a sequence of strings. Received: 'cat' of type"):
        LabelSpace({"pets": "cat"})


def test_logits_of_another_number_than_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"'farm' has 2 classes. Received: .*\(1, 3\)"):
        LabelSpace(OVERLAPPING).spread("farm", np.zeros((1, 3)), fill=0.0)
