"""What the canvas costs the teachers: their accuracy in their own pipelines beside that on it."""

from typing import Any

from keras_amalgam import evaluation
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.report import formats

# Of accuracy: what is worth a sentence.
WORTH_SAYING = 0.01


def own_accuracies(recipe: Recipe) -> dict[str, float]:
    """Each teacher's accuracy on photographs at their own size, where the recipe has them."""
    return {
        teacher.name: evaluation.own_accuracy(teacher, recipe.photographs[teacher.name])
        for teacher in recipe.teachers
        if teacher.name in recipe.photographs
    }


def tell(report: dict[str, Any], own: dict[str, float]) -> None:
    """Make these the teachers' accuracies in a report, and those so far their accuracies on canvas.

    Args:
        report: The report, with the teachers' accuracies on the canvas.
        own: Accuracy by teacher, 0..1.
    """
    for name, accuracy in own.items():
        task = report["tasks"][name]
        on_canvas = task["teacher_accuracy"]
        task |= {"teacher_accuracy": accuracy, "teacher_canvas_accuracy": on_canvas}
        if accuracy - on_canvas > WORTH_SAYING:
            report["notes"].append(
                f"The canvas costs teacher {name!r} {formats.percent(accuracy - on_canvas)} points "
                f"of accuracy: it is right on {formats.percent(accuracy)} % of its test images in "
                f"its own pipeline, and on {formats.percent(on_canvas)} % as the student sees them."
            )
