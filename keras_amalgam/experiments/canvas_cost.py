"""What the canvas costs the teachers: their accuracy in their own pipelines beside that on it."""

from collections.abc import Mapping

from keras_amalgam import evaluation
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.report import TaskResult, formats

# Of accuracy: what is worth a sentence.
WORTH_SAYING = 0.01


def own_accuracies(recipe: Recipe) -> dict[str, float]:
    """Each teacher's accuracy on photographs at their own size, where the recipe has them."""
    return {
        teacher.name: evaluation.own_accuracy(teacher, recipe.photographs[teacher.name])
        for teacher in recipe.teachers
        if teacher.name in recipe.photographs
    }


def notes(tasks: Mapping[str, TaskResult]) -> list[str]:
    """Sentences on teachers to which the canvas costs more than `WORTH_SAYING`.

    Args:
        tasks: With the teachers' accuracies in their own pipelines and on the canvas.
    """
    sentences = []
    for name, task in tasks.items():
        own, on_canvas = task.teacher_own_pipeline_accuracy, task.teacher_canvas_accuracy
        if own is None or on_canvas is None or own - on_canvas <= WORTH_SAYING:
            continue
        sentences.append(
            f"The canvas costs teacher {name!r} {formats.percent(own - on_canvas)} points of "
            f"accuracy: it is right on {formats.percent(own)} % of its test images in its own "
            f"pipeline, and on {formats.percent(on_canvas)} % as the student sees them."
        )
    return sentences
