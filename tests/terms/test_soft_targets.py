"""SoftTargets against NumPy, for disjoint and for overlapping classes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, logsumexp, softmax

import keras_amalgam as ka
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms import ModelSpec, Observation, SoftTargets

DISJOINT = {"digits": ("0", "1", "2"), "shapes": ("circle", "square")}
# In the label space: 0, 1, circle, square.
OVERLAPPING = {"digits": ("0", "1", "circle"), "shapes": ("circle", "square")}
SOURCE = np.array([0, 1, -1, 1, 0], "int32")


def connected(class_names, **arguments):
    term = SoftTargets(**arguments)
    tasks = {task: ka.tasks.Classification(names) for task, names in class_names.items()}
    student = ModelSpec("The student", tasks)
    teachers = {name: ModelSpec(f"Teacher {name!r}", {name: task}) for name, task in tasks.items()}
    term.connect(student, teachers)
    return term


def random_logits(class_names, seed, scale=3.0):
    rng = np.random.default_rng(seed)
    return {
        task: rng.normal(scale=scale, size=(5, len(names))).astype("float32")
        for task, names in class_names.items()
    }


def losses(term, student, teacher, source=None):
    signals = {task: Signals({task: logits}) for task, logits in teacher.items()}
    by_teacher = term(Signals(student), signals, Batch(None, source))
    return {task: np.asarray(value["soft_target"]) for task, value in by_teacher.items()}


def joined(logits, class_names):
    if class_names is DISJOINT:
        return np.concatenate([logits["digits"], logits["shapes"]], axis=-1)
    circle = logsumexp([logits["digits"][:, 2], logits["shapes"][:, 0]], axis=0) - np.log(2)
    return np.stack(
        [logits["digits"][:, 0], logits["digits"][:, 1], circle, logits["shapes"][:, 1]], axis=-1
    )


def reference_target(teacher, class_names, temperature, ownership):
    target = softmax(joined(teacher, class_names) / temperature, axis=-1)
    if ownership == "source":
        own = np.zeros((2, *target.shape))
        own[0, :, :3] = softmax(teacher["digits"] / temperature, axis=-1)
        places = [3, 4] if class_names is DISJOINT else [2, 3]
        own[1, :, places] = softmax(teacher["shapes"] / temperature, axis=-1).T
        for image, source in enumerate(SOURCE):
            target[image] = target[image] if source < 0 else own[source, image]
    return target


def reference_by_class(student, teacher, class_names, temperature, ownership):
    target = reference_target(teacher, class_names, temperature, ownership)
    log_q = log_softmax(joined(student, class_names) / temperature, axis=-1)
    return -(temperature**2) * target * log_q


@pytest.fixture(params=[DISJOINT, OVERLAPPING], ids=["disjoint", "overlapping"])
def class_names(request):
    return request.param


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("ownership", ["joint", "source"])
def test_joint_decision_equals_numpy_and_shares_sum_to_it(class_names, ownership, temperature):
    student, teacher = random_logits(class_names, 1), random_logits(class_names, 2)
    term = connected(class_names, ownership=ownership, temperature=temperature)
    by_teacher = losses(term, student, teacher, SOURCE)
    by_class = reference_by_class(student, teacher, class_names, temperature, ownership)
    total = sum(by_teacher.values())
    assert total.shape == (5,)
    np.testing.assert_allclose(total, by_class.sum(-1), rtol=1e-5)
    if class_names is DISJOINT:
        digits = by_class[:, :3].sum(-1)
    else:  # The circle is known to both, so half of it is each one's.
        digits = by_class[:, :2].sum(-1) + by_class[:, 2] / 2
    np.testing.assert_allclose(by_teacher["digits"], digits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_per_task_decision_equals_numpy(class_names, temperature):
    student, teacher = random_logits(class_names, 1), random_logits(class_names, 2)
    term = connected(class_names, ownership="per_task", temperature=temperature)
    for task, loss in losses(term, student, teacher).items():
        p = softmax(teacher[task] / temperature, axis=-1)
        log_q = log_softmax(student[task] / temperature, axis=-1)
        np.testing.assert_allclose(loss, -(temperature**2) * (p * log_q).sum(-1), rtol=1e-5)


def test_image_of_unknown_source_counts_as_under_joint(class_names):
    student, teacher = random_logits(class_names, 1), random_logits(class_names, 2)
    joint = losses(connected(class_names), student, teacher)
    by_source = losses(connected(class_names, ownership="source"), student, teacher, SOURCE)
    for task, loss in by_source.items():
        np.testing.assert_allclose(loss[2], joint[task][2], rtol=1e-6)
        assert np.abs(loss - joint[task])[[0, 1, 3, 4]].max() > 0.1


def test_image_of_a_known_source_owes_nothing_to_the_other_teacher():
    student, teacher = random_logits(DISJOINT, 1), random_logits(DISJOINT, 2)
    by_teacher = losses(connected(DISJOINT, ownership="source"), student, teacher, SOURCE)
    np.testing.assert_array_equal(by_teacher["shapes"][[0, 4]], [0, 0])
    np.testing.assert_array_equal(by_teacher["digits"][[1, 3]], [0, 0])


def test_heads_are_matched_by_name_not_by_order(class_names):
    student, teacher = random_logits(class_names, 1), random_logits(class_names, 2)
    term = connected(class_names)
    straight = losses(term, student, teacher)
    crossed = losses(term, dict(reversed(student.items())), teacher)
    for task in class_names:
        np.testing.assert_array_equal(straight[task], crossed[task])


@pytest.mark.matrix(keep=2)
@pytest.mark.parametrize("ownership", ["joint", "per_task", "source"])
def test_gradient_equals_central_differences(class_names, ownership):
    teacher = random_logits(class_names, 2, scale=1.0)
    term = connected(class_names, ownership=ownership, temperature=2.0)
    tasks = list(class_names)
    student = random_logits(class_names, 1, scale=1.0)
    flat = np.concatenate([student[task] for task in tasks], axis=-1)
    width = student[tasks[0]].shape[-1]

    def total(values):
        heads = {tasks[0]: values[:, :width], tasks[1]: values[:, width:]}
        signals = {task: Signals({task: logits}) for task, logits in teacher.items()}
        by_teacher = term(Signals(heads), signals, Batch(None, SOURCE))
        return sum(tf.reduce_sum(value["soft_target"]) for value in by_teacher.values())

    x = tf.constant(flat)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = total(x)
    gradient = tape.gradient(value, x).numpy()
    for direction in np.random.default_rng(3).normal(size=(3, *flat.shape)).astype("float32"):
        step = 0.02 * direction
        difference = float(total(flat + step) - total(flat - step)) / 2
        assert np.sum(gradient * step) == pytest.approx(difference, abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_extreme_logits_give_the_exact_loss(dtype):
    """The teacher is sure of class 0; the student first as well, then of "square"."""
    teacher = {
        "digits": np.array([[1e4, -1e4, -1e4]] * 2, dtype),
        "shapes": np.array([[-1e4, -1e4]] * 2, dtype),
    }
    student = {
        "digits": np.array([[1e4, -1e4, -1e4], [-1e4, -1e4, -1e4]], dtype),
        "shapes": np.array([[-1e4, -1e4], [-1e4, 1e4]], dtype),
    }
    for ownership, expected in (("joint", [0, 2e4]), ("source", [0, 2e4])):
        term = connected(DISJOINT, ownership=ownership)
        by_teacher = losses(term, student, teacher, np.zeros(2, "int32"))
        np.testing.assert_allclose(by_teacher["digits"], expected, rtol=1e-5)
        np.testing.assert_array_equal(by_teacher["shapes"], [0, 0])
    per_task = losses(connected(DISJOINT, ownership="per_task"), student, teacher)
    np.testing.assert_allclose(per_task["digits"], [0, np.log(3)], rtol=1e-5)
    np.testing.assert_allclose(per_task["shapes"], [np.log(2), 1e4], rtol=1e-4)


def test_missing_source_is_refused_saying_how_to_give_it():
    logits = random_logits(DISJOINT, 1)
    with pytest.raises(ValueError, match="images without sources. Yield {'image'"):
        losses(connected(DISJOINT, ownership="source"), logits, logits)


def test_settings_survive_serialization():
    term = SoftTargets(ownership="source", temperature=2.5, weight=0.7, name="st")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(term))
    assert again.get_config() == term.get_config()
    assert (again.ownership, again.temperature, again.weight, again.name) == (
        "source",
        2.5,
        0.7,
        "st",
    )


@pytest.mark.parametrize(
    "arguments", [{"ownership": "oracle"}, {"temperature": 0.0}, {"weight": -1.0}], ids=str
)
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        SoftTargets(**arguments)


@pytest.mark.slow
def test_fit_lowers_what_each_teacher_is_owed(make):
    """Teachers that share a class; dark images are one's, bright ones the other's."""
    teachers = [
        make.teacher("digits", ["0", "1", "round"]),
        make.teacher("shapes", ["round", "square"], size=(16, 16), seed=2),
    ]
    source = np.tile(np.array([0, 1], "int32"), 24)
    images = make.images(48) // 2 + (120 * source[:, None, None, None]).astype("uint8")
    term = ka.SoftTargets(ownership="source", temperature=2.0)
    model = ka.Amalgamator(make.student(teachers, batch_norm=False), teachers, terms=[term])
    model.compile(optimizer=keras.optimizers.Adam(0.03))
    data = {"image": images, "source": source}
    history = model.fit(data, batch_size=16, epochs=10, verbose=0).history
    for key in ("soft_targets/digits", "soft_targets/shapes"):
        assert history[key][-1] < 0.9 * history[key][0]


def standardized(logits):
    logits = logits.astype("float64")
    return (logits - logits.mean(-1, keepdims=True)) / (logits.std(-1, keepdims=True) + 1e-7)


@pytest.mark.parametrize("ownership", ["joint", "per_task", "source"])
def test_standardized_logits_of_each_decision_equal_numpy(ownership):
    student, teacher = random_logits(DISJOINT, 1), random_logits(DISJOINT, 2, scale=30.0)
    term = connected(DISJOINT, ownership=ownership, temperature=2.0, standardize=True)
    found = losses(term, student, teacher, SOURCE)
    if ownership == "per_task":
        for task, loss in found.items():
            p = softmax(standardized(teacher[task]) / 2, axis=-1)
            log_q = log_softmax(standardized(student[task]) / 2, axis=-1)
            np.testing.assert_allclose(loss, -4 * (p * log_q).sum(-1), rtol=1e-4)
        return
    target = softmax(standardized(joined(teacher, DISJOINT)) / 2, axis=-1)
    log_q = log_softmax(standardized(joined(student, DISJOINT)) / 2, axis=-1)
    if ownership == "source":
        mass = softmax(joined(student, DISJOINT) / 2, axis=-1)
        for image, source in enumerate(SOURCE):
            if source >= 0:
                task, places = list(DISJOINT)[source], [slice(0, 3), slice(3, 5)][source]
                target[image] = 0
                target[image, places] = softmax(standardized(teacher[task][image]) / 2)
                within = log_softmax(standardized(student[task][image]) / 2)
                log_q[image, places] = within + np.log(mass[image, places].sum())
    np.testing.assert_allclose(sum(found.values()), -4 * (target * log_q).sum(-1), rtol=1e-4)


@pytest.mark.parametrize("ownership", ["joint", "per_task", "source"])
@pytest.mark.parametrize("classes", [DISJOINT, OVERLAPPING], ids=["disjoint", "overlapping"])
def test_standardized_target_can_be_reached(classes, ownership):
    """Or the student would learn something else: the least loss is the target's entropy."""
    teacher = random_logits(classes, 2, scale=30.0)
    term = connected(classes, ownership=ownership, temperature=2.0, standardize=True)
    for number, task in enumerate(classes):
        source = np.full(len(SOURCE), number)
        # As the teachers answer, on another scale, and sure of the task where that is owed.
        sure = 1e4 * (ownership == "source")
        student = {name: 3.0 * values + sure * (name == task) for name, values in teacher.items()}
        found = losses(term, student, teacher, source)
        entropies = {
            name: entropy_of(softmax(standardized(values) / 2, axis=-1))
            for name, values in teacher.items()
        }
        if ownership == "per_task":
            least = sum(entropies.values())
        elif ownership == "source":
            least = entropies[task]
        else:
            least = entropy_of(softmax(standardized(joined(teacher, classes)) / 2, axis=-1))
        np.testing.assert_allclose(sum(found.values()), 4 * least, rtol=1e-4)


def entropy_of(probabilities):
    return -(probabilities * np.log(probabilities)).sum(-1)


def test_standardized_loss_does_not_hang_on_the_logits_scale():
    student, teacher = random_logits(DISJOINT, 1), random_logits(DISJOINT, 2)
    term = connected(DISJOINT, standardize=True, temperature=2.0, ownership="per_task")
    before = losses(term, student, teacher)
    after = losses(
        term, {k: 7 * v for k, v in student.items()}, {k: 5 * v for k, v in teacher.items()}
    )
    for task in DISJOINT:
        np.testing.assert_allclose(after[task], before[task], rtol=1e-4)


def mean_entropy(logits):
    p = softmax(logits, axis=-1)
    return -(p * np.log(p)).sum(-1).mean() / np.log(logits.shape[-1])


def observed(teacher, source=None):
    signals = {task: Signals({task: logits}) for task, logits in teacher.items()}
    return Observation(Signals({}), signals, Batch(None, source))


def test_fitted_temperatures_make_teachers_equally_sure_and_keep_the_mean():
    teacher = {
        "digits": np.random.default_rng(0).normal(scale=9.0, size=(200, 3)),
        "shapes": np.random.default_rng(1).normal(scale=0.3, size=(200, 2)),
    }
    term = connected(DISJOINT, fit_temperatures=True, temperature=2.0)
    term.adapt(
        [
            observed({k: v[:120] for k, v in teacher.items()}),
            observed({k: v[120:] for k, v in teacher.items()}),
        ]
    )
    before = [mean_entropy(values / 2) for values in teacher.values()]
    divided = [
        values / 2 / float(divisor)
        for values, divisor in zip(teacher.values(), np.asarray(term._divisors), strict=True)
    ]
    for values in divided:
        assert mean_entropy(values) == pytest.approx(np.mean(before), rel=1e-4)
    few = {task: values[:5].astype("float32") for task, values in teacher.items()}
    student = random_logits(DISJOINT, 1)
    scaled = {
        task: values / float(divisor)
        for (task, values), divisor in zip(few.items(), np.asarray(term._divisors), strict=True)
    }
    expected = losses(connected(DISJOINT, temperature=2.0), student, scaled)
    for task, loss in losses(term, student, few).items():
        np.testing.assert_allclose(loss, expected[task], rtol=1e-4)


def test_temperatures_are_fitted_on_each_teachers_own_images_where_sources_are_known():
    rng = np.random.default_rng(0)
    source = np.repeat([0, 1], 100).astype("int32")
    teacher = {
        "digits": rng.normal(size=(200, 3)) * np.where(source == 0, 9.0, 0.1)[:, None],
        "shapes": rng.normal(size=(200, 2)) * np.where(source == 1, 1.0, 20.0)[:, None],
    }
    term = connected(DISJOINT, fit_temperatures=True)
    term.adapt([observed(teacher, source)])
    entropies = [
        mean_entropy(values[source == number] / float(term._divisors[number]))
        for number, values in enumerate(teacher.values())
    ]
    assert entropies[0] == pytest.approx(entropies[1], rel=1e-4)


def test_standardized_logits_have_no_temperature_to_fit():
    with pytest.raises(ValueError, match="no scale left to be fitted"):
        SoftTargets(standardize=True, fit_temperatures=True)


class Brightness:
    """A task that is no classification: one number, imitated by its squared error."""

    class_names = ()

    def soft_target_loss(self, student, teacher, temperature):
        return keras.ops.sum(keras.ops.square(student - teacher), axis=-1)


@pytest.mark.parametrize("ownership", ["joint", "per_task", "source"])
def test_ownership_concerns_classification_alone(ownership):
    """A number is imitated on every image, and stands in no softmax."""
    tasks = {
        "light": Brightness(),
        "digits": ka.tasks.Classification(DISJOINT["digits"]),
        "shapes": ka.tasks.Classification(DISJOINT["shapes"]),
    }
    term = SoftTargets(ownership=ownership)
    teachers = {name: ModelSpec(f"Teacher {name!r}", {name: task}) for name, task in tasks.items()}
    term.connect(ModelSpec("The student", tasks), teachers)
    student, teacher = random_logits(DISJOINT, 1), random_logits(DISJOINT, 2)
    alone = losses(connected(DISJOINT, ownership=ownership), student, teacher, SOURCE)
    light = {"light": np.arange(5.0, dtype="float32")[:, None]}
    # The number's teacher is the first, so that the others' collections are 1 and 2.
    shifted = np.where(SOURCE < 0, SOURCE, SOURCE + 1)
    found = losses(term, {**light, **student}, {"light": 0 * light["light"], **teacher}, shifted)
    np.testing.assert_allclose(found["light"], np.arange(5.0) ** 2)
    for task in DISJOINT:
        np.testing.assert_allclose(found[task], alone[task], rtol=1e-6)
