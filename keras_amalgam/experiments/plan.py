"""What a run would do and what it would take: `--dry_run`."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.experiments import choosing, made_from
from keras_amalgam.experiments.estimate import LATER, Estimate, estimate, stage_lengths
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.run_folder import RunFolder, listed
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.method import Method
from keras_amalgam.training.state import State


def plan(
    recipe: Recipe,
    folder: Path,
    keep: int,
    say: Callable[[str], None],
    *,
    restart: bool = False,
) -> Estimate | None:
    """Say what a run would do and what it would take; nothing is written.

    Args:
        recipe: What would be run.
        folder: Where; what is done there already is said.
        keep: How many states of each training would stay.
        say: Where it goes.
        restart: Whether what is done there would be begun anew.

    Returns:
        What is left; `None` if that is nothing.

    Raises:
        ValueError: If the run would be refused, as the training there was begun with something
            else, or test images cannot be evaluated.
    """
    run, about = RunFolder(folder, say), made_from.images(recipe)
    done = {} if restart else run.steps
    later = LATER if recipe.evaluation else LATER[1:]
    missing, left = {}, set()
    if recipe.candidates and "choose" in done and not run.lost("choose"):
        recipe, _ = choosing.with_chosen(recipe, folder / choosing.CHOICE)
    elif recipe.candidates:
        names = [method.name for method in recipe.candidates]
        say(f"choose: to do, between {', '.join(names)}; the slowest stands for the one chosen.")
    epoch = int(recipe.streams["train"].cardinality())
    for method in choosing.trainings(recipe, epoch):
        begun = State() if restart else _begun(recipe, method, folder, about)
        missing[method.name] = _say_training(method, begun, epoch, say)
        left |= set(later) if any(missing[method.name]) else set()
    for step in later:
        lost = run.lost(step) if step in done else []
        # The report tells of the others.
        if step not in done or lost or (step == "report" and left):
            left.add(step)
        again = " again" if step in done else ""
        why = f", as {listed(lost)}" if lost else ""
        say(f"{step}: to do{again}{why}." if step in left else f"{step}: done already.")
    if not left:
        say("Nothing is left to do.")
        return None
    estimated = estimate(recipe, keep, missing, left)
    say(estimated.sentence)
    return estimated


def _begun(recipe: Recipe, method: Method, folder: Path, about: Mapping[str, Any]) -> State:
    """What is done of a training, refused if it was begun with something else."""
    keras.utils.set_random_seed(method.seed)
    student = (method.stages[0].student or recipe.student)()
    made = made_from.training(recipe, method, student, about)
    return Keeping(folder / "training" / method.name / "states", made).begun()[0]


def _say_training(
    method: Method, begun: State, epoch: int, say: Callable[[str], None]
) -> list[int]:
    """Say what there is to do of a training; gives the steps of each stage that are left."""
    place, lengths = begun.place, stage_lengths(method, epoch)
    told = f"training {method.name}: {sum(lengths)} steps in epochs of {epoch}"
    if begun.finished:
        say(f"{told}, done already.")
        return [0] * len(lengths)
    done = [*lengths[: place.stage], place.epoch * epoch + place.step]
    if any(done):
        told += f", begun: stage {place.stage + 1}, epoch {place.epoch + 1}, step {place.step}"
    say(f"{told}.")
    return [all_ - behind for all_, behind in itertools.zip_longest(lengths, done, fillvalue=0)]
