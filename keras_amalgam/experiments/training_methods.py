"""The methods that a run with teachers of one's own can be trained by, by their names."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras

from keras_amalgam.choices import CHOOSE
from keras_amalgam.data import Augmentation
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, CommonFeatures, SoftTargets
from keras_amalgam.terms.soft_targets import Ownership
from keras_amalgam.training import Method, Stage, cosine_adamw, methods

# Of those between which one is chosen: they see the same images, and none takes far longer.
CANDIDATES = ("amalgamation", "standardized", "reused_heads")
EPOCHS, TEMPERATURE, COMMON_FEATURES = 30, 2.0, 0.1
# Peak of the schedule; that of the published method is its own.
LEARNING_RATE = 1e-3
LEARNING_RATES = {"paper": 1e-4}
MIXUP, ZOOM = 1.0, 0.25  # Of `matching`, whose images make the method.


@dataclass(frozen=True)
class Course:
    """What the methods of a run share.

    Args:
        teachers: The teachers.
        reusing: Makes a student with reused heads.
        tap: Name of the tap at which features are compared; `None` without a common space.
        common_features: Weight of the common space.
        ownership: Which teacher the soft targets believe on an image; see `SoftTargets`.
        temperature: Divisor of the logits in the soft targets, positive.
        learning_rate: Peak of the schedule; `None` for the method's own.
        epochs: Passes over the images.
        seed: Seed of the initial weights and of the order of the images.
        fits: Raises a `ValueError` if a method does not fit teachers and student.
    """

    teachers: Sequence[Teacher]
    reusing: Callable[[], keras.Model]
    tap: str | None
    common_features: float
    ownership: Ownership
    temperature: float
    learning_rate: float | None
    epochs: int
    seed: int
    fits: Callable[[Method], None]

    @property
    def weight(self) -> float:
        """The weight of the common space, 0 where there is none."""
        return 0.0 if self.tap is None else self.common_features

    def methods(self, name: str) -> tuple[list[Method], list[str]]:
        """The method of a name, or those between which one is to be chosen.

        Returns:
            The methods, and a sentence for each candidate that is left out.

        Raises:
            ValueError: If the method cannot serve the teachers, or there is nothing to choose.
        """
        return ([self._made(name)], []) if name != CHOOSE else self._candidates()

    def _candidates(self) -> tuple[list[Method], list[str]]:
        made, refused = [], []
        for name in CANDIDATES:
            try:
                method = self._made(name)
                self.fits(method)
                made.append(method)
            except ValueError as error:
                refused.append(f"{name}: {error}")
        if len(made) < 2:
            left = " or ".join(f"`method={method.name!r}`" for method in made) or "other teachers"
            raise ValueError(
                "There is nothing to choose between, as these teachers do not fit most methods. "
                f"Received: {' '.join(refused)} Use {left}."
            )
        return made, [f"Not tried, {reason}" for reason in refused]

    def _made(self, name: str) -> Method:
        common = {"epochs": self.epochs, "seed": self.seed, "learning_rate": self._rate(name)}
        soft = {"ownership": self.ownership, "temperature": self.temperature}
        make = {
            "amalgamation": self._amalgamation,
            "matching": functools.partial(methods.matching, self.teachers, **common, **soft),
            "standardized": functools.partial(
                methods.standardized, self.teachers, **common, **soft
            ),
            "reused_heads": functools.partial(
                methods.reused_heads, self.teachers, self.reusing, **common
            ),
            "paper": functools.partial(methods.paper, self.teachers, **common),
        }
        return make[name]()

    def _rate(self, name: str) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATES.get(name, LEARNING_RATE)

    def _amalgamation(self) -> Method:
        def terms() -> list[AmalgamationTerm]:
            made: list[AmalgamationTerm] = [
                SoftTargets(ownership=self.ownership, temperature=self.temperature)
            ]
            if self.ownership == "source":
                # Each teacher knows something of the others' images, too: docs/levers.md.
                of_tasks = SoftTargets("per_task", self.temperature, name="task_targets")
                made.append(of_tasks)
            if self.tap is not None:
                made.append(CommonFeatures(units=64, weight=self.common_features, taps=self.tap))
            return made

        stage = Stage(terms, self.epochs, cosine_adamw(self._rate("amalgamation")))
        return Method("amalgamation", (stage,), seed=self.seed)


def augmented(method: str, augmentation: Augmentation) -> Augmentation:
    """How the images are changed at random where this method is trained."""
    if method != "matching":
        return augmentation
    return replace(augmentation, mixup=MIXUP, zoom=ZOOM)
