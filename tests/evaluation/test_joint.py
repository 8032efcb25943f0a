import numpy as np
import pytest

from keras_amalgam import LabelSpace
from keras_amalgam.evaluation import agreement, confusion_matrix, evaluate, joint_accuracy

SPACE = LabelSpace({"letters": ["a", "b", "c"], "signs": ["+", "-"]})
OVERLAPPING = LabelSpace({"pets": ["cat", "dog"], "farm": ["dog", "cow"]})


def _case(seed: int, images: int = 120):
    rng = np.random.default_rng(seed)
    tasks = rng.choice(["letters", "signs"], images)
    labels = np.where(tasks == "letters", rng.integers(0, 3, images), rng.integers(0, 2, images))
    logits = {"letters": rng.normal(size=(images, 3)), "signs": rng.normal(size=(images, 2))}
    return logits, labels, tasks


def _numpy_predictions(logits):
    return np.concatenate([logits["letters"], logits["signs"]], axis=1).argmax(axis=1)


def test_joint_accuracy_equals_numpy_over_concatenated_logits():
    logits, labels, tasks = _case(0)
    truth = labels + 3 * (tasks == "signs")

    expected = np.mean(_numpy_predictions(logits) == truth)

    assert joint_accuracy(logits, labels, tasks, SPACE) == expected
    assert 0.05 < expected < 0.5


def test_joint_accuracy_counts_a_right_class_of_the_wrong_task_as_wrong():
    logits = {"letters": np.array([[0.0, 1.0, 0.0]]), "signs": np.array([[0.0, 2.0]])}

    assert joint_accuracy(logits, np.array([1]), ["letters"], SPACE) == 0.0
    assert joint_accuracy(logits, np.array([1]), ["signs"], SPACE) == 1.0


def test_joint_accuracy_takes_a_class_of_two_tasks_as_one():
    logits = {"pets": np.array([[0.0, 3.0]]), "farm": np.array([[3.0, 0.0]])}

    assert joint_accuracy(logits, np.array([1]), ["pets"], OVERLAPPING) == 1.0
    assert joint_accuracy(logits, np.array([0]), ["farm"], OVERLAPPING) == 1.0


@pytest.mark.parametrize(
    ("labels", "tasks", "message"),
    [
        ([0, 3], ["letters", "letters"], "label of task 'letters'"),
        ([0, -1], ["letters", "signs"], "label of task 'signs'"),
        ([0, 0], ["letters", "birds"], "not in the label space"),
        ([0], ["letters"], "don't fit"),
    ],
)
def test_joint_accuracy_refuses(labels, tasks, message):
    logits = {"letters": np.zeros((2, 3)), "signs": np.zeros((2, 2))}
    with pytest.raises(ValueError, match=message):
        joint_accuracy(logits, np.array(labels), tasks, SPACE)


def test_confusion_matrix_equals_counting():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 5, 300), rng.integers(0, 4, 300)
    expected = np.zeros((5, 5), int)
    for label, prediction in zip(labels, predictions, strict=True):
        expected[label, prediction] += 1

    np.testing.assert_array_equal(confusion_matrix(labels, predictions, SPACE), expected)


def _evaluate(seed: int):
    """A model that reads its logits out of the image's pixels."""
    rng = np.random.default_rng(seed)
    test = {
        "letters": (rng.normal(size=(40, 1, 5, 1)), rng.integers(0, 3, 40)),
        "signs": (rng.normal(size=(25, 1, 5, 1)), rng.integers(0, 2, 25)),
    }

    def predict(images):
        flat = images.reshape(len(images), 5)
        return {"letters": flat[:, :3], "signs": flat[:, 3:]}

    return evaluate(predict, test, SPACE, batch_size=16), test


def test_evaluate_agrees_with_numpy_per_task_and_jointly():
    said, test = _evaluate(2)
    rows = {task: images.reshape(len(images), 5) for task, (images, _) in test.items()}
    truth = np.concatenate([test["letters"][1], 3 + test["signs"][1]])
    predictions = np.concatenate([rows["letters"], rows["signs"]]).argmax(1)

    assert said.task_accuracy == {
        "letters": np.mean(rows["letters"][:, :3].argmax(1) == test["letters"][1]),
        "signs": np.mean(rows["signs"][:, 3:].argmax(1) == test["signs"][1]),
    }
    assert said.joint_accuracy == np.mean(predictions == truth)
    assert said.num_images == {"letters": 40, "signs": 25}


def test_test_images_of_some_tasks_give_those_accuracies_and_no_joint_one():
    rng = np.random.default_rng(4)
    letters, labels = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)

    def predict(images):
        return {"letters": letters[: len(images)], "signs": rng.normal(size=(len(images), 2))}

    said = evaluate(predict, {"letters": (np.zeros((40, 2, 2, 1)), labels)}, SPACE)
    assert said.task_accuracy == {"letters": np.mean(letters.argmax(1) == labels)}
    assert not said.is_complete
    assert said.joint_accuracy is None and said.named_confusion_matrix() is None


def test_named_confusion_matrix_sums_to_the_joint_accuracy_and_names_each_class_and_task():
    said, _ = _evaluate(3)
    matrix = said.named_confusion_matrix()
    counts = np.array(matrix.counts)

    assert matrix.labels == ("a", "b", "c", "+", "-")
    assert matrix.tasks == ("letters",) * 3 + ("signs",) * 2
    assert np.trace(counts) / counts.sum() == said.joint_accuracy
    assert counts[:3].sum() == 40


def test_agreement_ignores_the_labels():
    one, _ = _evaluate(4)
    other, _ = _evaluate(5)
    by_hand = np.mean(
        one.logits["signs"]["signs"].argmax(1) == other.logits["signs"]["signs"].argmax(1)
    )

    assert agreement(one, one) == {"letters": 1.0, "signs": 1.0}
    assert agreement(one, other)["signs"] == by_hand


def test_evaluate_refuses_a_model_that_is_silent_on_a_task():
    def predict(images):
        return {"letters": np.zeros((len(images), 3))}

    with pytest.raises(ValueError, match="Missing: \\['signs'\\]"):
        evaluate(predict, {"letters": (np.zeros((2, 1, 1, 1)), np.zeros(2))}, SPACE)


def test_evaluate_refuses_test_images_of_a_task_that_is_not_there():
    with pytest.raises(ValueError, match="Name the test data after the tasks"):
        evaluate(lambda images: {}, {"birds": (np.zeros((2, 1, 1, 1)), np.zeros(2))}, SPACE)
