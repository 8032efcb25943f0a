"""Choosing the method of a recipe, as a step of its run."""

import json
from dataclasses import replace
from pathlib import Path

from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.files.writing import write_json
from keras_amalgam.report import ChoiceResult, TriedMethod, formats, records
from keras_amalgam.training import Choice, Method
from keras_amalgam.training.choosing import shortened

SHARE = 0.2
# Of the images, and how many at most, are kept aside to choose by.
KEPT_ASIDE, MOST_KEPT_ASIDE = 0.1, 1000
CHOICE = "choice.json"


def trials(recipe: Recipe) -> list[Method]:
    """The short runs of a recipe's candidates, each with a name that no other training has."""
    return [
        replace(shortened(method, SHARE), name=f"{method.name}_trial")
        for method in recipe.candidates
    ]


def trainings(recipe: Recipe, epoch: int) -> list[Method]:
    """All methods that will be trained, as far as that is known: the longest for the chosen one.

    Args:
        recipe: The recipe.
        epoch: Steps of an epoch.
    """

    def length(method: Method) -> int:
        return sum(stage.length(epoch) for stage in method.stages)

    longest = sorted(recipe.candidates, key=length)[-1:]
    return [*trials(recipe), *longest, *recipe.methods]


def write(path: Path, choice: Choice) -> None:
    """Write `choice.json`.

    Args:
        path: Where it is written.
        choice: What was chosen.
    """
    result = ChoiceResult(
        by=choice.by,
        num_images=choice.trials[0].agreement.num_images,
        tried=tuple(
            TriedMethod(
                method=trial.method,
                epochs=trial.epochs,
                parameters=trial.parameters,
                agreement=dict(trial.agreement.tasks),
                joint_agreement=trial.agreement.joint,
            )
            for trial in choice.trials
        ),
        diverged=tuple(choice.diverged),
    )
    write_json(path, {"method": choice.method.name, **records.plain(result)})


def with_chosen(recipe: Recipe, path: Path) -> tuple[Recipe, ChoiceResult]:
    """The recipe with the method that was chosen as its first, and how it was chosen.

    Args:
        recipe: With candidates.
        path: The file `choice.json`.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    name = content.pop("method")
    known = {one.name: one for one in recipe.candidates}
    if name not in known:
        raise ValueError(
            f"{path} names a method that is not a candidate. Received: {name!r}. Expected: one of "
            f"{list(known)}. Choose with the same candidates, or begin anew in another folder."
        )
    method = known[name]
    chosen = replace(recipe, methods=[method, *recipe.methods], candidates=())
    return chosen, records.build(ChoiceResult, content)


def sentence(result: ChoiceResult, method: str) -> str:
    """What was chosen and what that was judged by, in a sentence."""
    measured = ", ".join(
        f"{one.method} {formats.percent(result.score(one))} %" for one in result.tried
    )
    out = "".join(f" {name} was left out: its loss diverged." for name in result.diverged)
    what = "over all tasks" if result.by == "tasks" else "in the joint decision"
    return (
        f"Chosen: {method}. Agreement with the teachers {what}, on {result.num_images} images kept "
        f"aside: {measured}.{out} {result.doubt}".rstrip()
    )
