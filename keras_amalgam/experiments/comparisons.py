"""What students trained for comparison are worth, and how the report says so."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from keras_amalgam import evaluation
from keras_amalgam.evaluation.gradients import gradient_norms
from keras_amalgam.experiments import reporting
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.report import AblationRun, ComparedOwnership, Report, records
from keras_amalgam.training import Amalgamation
from keras_amalgam.training.epoch_numbers import first_batch

Compared = AblationRun | ComparedOwnership


def measured(recipe: Recipe, amalgamation: Amalgamation, own: str) -> Compared:
    """What a student trained for comparison is worth on the test images.

    Args:
        recipe: A recipe that has test images.
        amalgamation: The training of that student.
        own: The exported student's ownership.
    """
    tested = recipe.evaluated(evaluation.predictor(amalgamation.amalgamator.student))
    if _kind(amalgamation, own) is ComparedOwnership:
        return ComparedOwnership(
            method=amalgamation.method.name,
            ownership=reporting.ownership_of(amalgamation),
            accuracy=tested.joint_accuracy,
        )
    batch = first_batch(recipe.streams["train"])
    return AblationRun(
        method=amalgamation.method.name,
        removed=amalgamation.method.removes,
        task_accuracy=reporting.task_accuracies(recipe, tested),
        joint_accuracy=tested.joint_accuracy,
        gradient_norms=gradient_norms(amalgamation.amalgamator, batch),
    )


def read(path: Path, amalgamation: Amalgamation, own: str) -> Compared:
    """Read back what `measured` returned, from the file that holds it.

    Args:
        path: The JSON file.
        amalgamation: The training that was measured.
        own: The exported student's ownership.
    """
    return records.build(_kind(amalgamation, own), json.loads(path.read_text(encoding="utf-8")))


def added(report: Report, compared: Sequence[Compared | None]) -> Report:
    """The report with what each term is worth, and with other ownerships.

    Args:
        report: The exported student's report.
        compared: What was measured of each student trained for comparison.
    """
    ownerships = tuple(one for one in compared if isinstance(one, ComparedOwnership))
    ablation = tuple(one for one in compared if isinstance(one, AblationRun))
    joint = dataclasses.replace(report.joint_accuracy, compared=ownerships)
    return dataclasses.replace(report, joint_accuracy=joint, ablation=ablation or None)


def _kind(amalgamation: Amalgamation, own: str) -> type[Compared]:
    other = reporting.ownership_of(amalgamation) != own
    return ComparedOwnership if amalgamation.method.removes is None and other else AblationRun
