"""What the report shows beyond numbers: samples and the common space."""

from collections.abc import Sequence

import numpy as np

from keras_amalgam import evaluation
from keras_amalgam.evaluation.embedding import MIN_POINTS
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.report import CommonSpaceResult, Pictures
from keras_amalgam.terms import CommonFeatures
from keras_amalgam.training.amalgamator import Amalgamator

SPACE_IMAGES = 300


def draw(
    recipe: Recipe,
    amalgamator: Amalgamator,
    said: evaluation.Evaluation,
    teachers_said: evaluation.Evaluation,
) -> tuple[Pictures, CommonSpaceResult | None]:
    """The pictures, and what was measured in the common space if the student has one.

    They are of test images, so teachers without any are left out, and the common space is where
    there are too few for a picture.
    """
    samples = []
    tested = [teacher for teacher in recipe.teachers if teacher.name in recipe.evaluation]
    for teacher in tested:
        task = teacher.name
        samples += evaluation.draw_samples(
            task,
            recipe.evaluation[task],
            teachers_said.logits[task][task],
            said.logits[task][task],
            teacher.class_names,
        )
    terms = common_spaces(amalgamator)
    if not terms:
        return Pictures(samples), None
    features, tasks, classes = _embed(recipe, tested, amalgamator, terms[0])
    if 2 * len(tasks) < MIN_POINTS:  # Each image as the student sees it, and as its teacher does.
        return Pictures(samples), None
    space = evaluation.common_space(
        features,
        tasks,
        classes,
        domains={teacher.name: teacher.name for teacher in tested},
    )
    retrieval = {
        teacher.name: evaluation.class_retrieval(
            features["student"][tasks == teacher.name],
            features[teacher.name][tasks == teacher.name],
            classes[tasks == teacher.name],
        )
        for teacher in tested
    }
    measured = CommonSpaceResult(class_retrieval=retrieval, num_images=len(tasks))
    return Pictures(samples, space), measured


def common_spaces(amalgamator: Amalgamator) -> list[CommonFeatures]:
    """The terms of a training that compare features in a common space."""
    return [term for term in amalgamator.terms if isinstance(term, CommonFeatures)]


def _embed(
    recipe: Recipe, tested: Sequence[Teacher], amalgamator: Amalgamator, term: CommonFeatures
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Common features of each task's first test images, by model, with tasks and class names."""
    images, tasks, classes = [], [], []
    for teacher in tested:
        batches = recipe.evaluation[teacher.name].unbatch().take(SPACE_IMAGES)
        for image, label in batches.as_numpy_iterator():
            images.append(image)
            tasks.append(teacher.name)
            classes.append(teacher.class_names[label])
    student, teachers = amalgamator.signals(np.stack(images).astype("float32"))
    tap = term.reads[-1]
    common = term.embed(student.features[tap], [one.features[tap] for one in teachers.values()])
    names = ("student", *teachers)
    features = {name: np.asarray(values) for name, values in zip(names, common, strict=True)}
    features = {name: features[name] for name in ("student", *(t.name for t in tested))}
    return features, np.array(tasks), np.array(classes)
