"""The trainings of one run, each kept in a folder of its own."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.experiments import choosing, estimate, made_from
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.run_folder import RunFolder, Say
from keras_amalgam.experiments.settings import Settings
from keras_amalgam.training import Amalgamation, Choice, Method, choose, train
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.progress import Length, Progress, WriteHistory
from keras_amalgam.training.state import Place, State


@dataclass(frozen=True)
class Prepared:
    """A training that may begin or go on.

    Args:
        method: How the student is trained.
        student: Before the training.
        folder: For its states and its history.
        keeping: Where its state is kept.
        begun: What an earlier process left of it.
    """

    method: Method
    student: keras.Model
    folder: Path
    keeping: Keeping
    begun: State


@dataclass(frozen=True)
class Trainings:
    """Begins the trainings of a recipe, or goes on with them.

    Args:
        recipe: What is run.
        folder: The run's folder.
        settings: How it is run.
        images: What they were made from, as `made_from.images` says.
        say: Where progress goes.
    """

    recipe: Recipe
    folder: RunFolder
    settings: Settings
    images: Mapping[str, Any]
    say: Say

    def prepare(self, method: Method) -> Prepared:
        """The student before its training, and what an earlier process left of that.

        Args:
            method: How it is trained.

        Raises:
            ValueError: If that was begun with something else, or must be finished and is not.
        """
        recipe, settings = self.recipe, self.settings
        folder = self.folder.path / "training" / method.name
        keras.utils.set_random_seed(method.seed)
        with settings.strategy.scope() if settings.strategy else contextlib.nullcontext():
            student = (method.stages[0].student or recipe.student)()
        replicas = settings.strategy.num_replicas_in_sync if settings.strategy else 1
        made = made_from.training(recipe, method, student, self.images, replicas)
        keeping = Keeping(folder / "states", made, settings.keep, settings.minutes)
        begun, _ = keeping.begun()
        if not begun.finished and settings.only not in (None, "train", "compare"):
            raise ValueError(
                f"Only the step {settings.only!r} was wanted, and the training before it has not "
                f"finished. Received: {folder}. Run without `only` first."
            )
        return Prepared(method, student, folder, keeping, begun)

    def train(self, prepared: Prepared) -> Amalgamation:
        """Train the student to the end.

        Args:
            prepared: As `prepare` made it.
        """
        self._announce(prepared.method, prepared.begun)
        return train(
            prepared.method,
            self.recipe.teachers,
            lambda: prepared.student,
            self.recipe.student_tap,
            self.recipe.streams["train"],
            keeping=prepared.keeping,
            logs=self.folder.path / "logs" / prepared.method.name,
            callbacks=lambda stage, steps: self._callbacks(prepared, stage, steps),
            strategy=self.settings.strategy,
            verbose=0,
        )

    def choose(self, tried: Mapping[str, Prepared]) -> Choice:
        """Try the recipe's candidates by short runs.

        Args:
            tried: Their short runs, by name.
        """
        recipe = self.recipe
        return choose(
            recipe.candidates,
            recipe.teachers,
            recipe.student,
            recipe.student_tap,
            recipe.streams["train"],
            recipe.streams["kept_aside"],
            share=choosing.SHARE,
            keeping=lambda method: tried[method.name].keeping,
            callbacks=lambda method, stage, steps: self._callbacks(
                tried[method.name], stage, steps
            ),
            strategy=self.settings.strategy,
            verbose=0,
        )

    def _announce(self, method: Method, begun: State) -> None:
        place = begun.place
        if begun.finished:
            self.say(f"training {method.name}: done already.")
        elif begun.history or place.step:
            self.say(
                f"Training the student goes on: {method.name}, stage {place.stage + 1}, epoch "
                f"{place.epoch + 1}, step {place.step}."
            )
        else:
            self.say(f"Training the student without labels: {method.name}.")

    def _callbacks(
        self, prepared: Prepared, stage: int, steps: int
    ) -> list[keras.callbacks.Callback]:
        method, begun = prepared.method, prepared.begun
        every = choosing.trainings(self.recipe, steps)
        place = [one.name for one in every].index(method.name)
        later = sum(each.length(steps) for one in every[place + 1 :] for each in one.stages)
        known = [record["seconds"] for record in self.folder.steps.values()]
        # The first step looks at the images; of those after it nothing is known yet.
        rest = sum(known) if len(known) > 1 else estimate.packaging_seconds(prepared.student)
        length = Length(
            [one.epochs for one in method.stages],
            sum(one.length(steps) for one in method.stages),
            steps,
            self.recipe.batch_size,
            lambda seconds: later * seconds + rest,
        )
        goes_on = stage == begun.place.stage
        progress = Progress(
            length,
            begun.place if goes_on else Place(stage),
            begun.seconds if goes_on else 0.0,
            self.say,
        )
        done = len(begun.history.get("loss", ())) if goes_on else None
        history = WriteHistory(prepared.folder / "history.csv", done, progress)
        return [progress, history, *self._made_callbacks()]

    def _made_callbacks(self) -> Sequence[keras.callbacks.Callback]:
        made = self.settings.callbacks()
        if not isinstance(made, (list, tuple)):
            raise TypeError(
                f"`callbacks` must make a list of callbacks. Received: {made!r}. Expected: such as "
                "`callbacks=lambda: [callback]`."
            )
        return made
