"""Merge trained networks into one compact multi-task student, without labels.

Teachers of different architectures, frameworks and tasks go in; the student imitates their answers
and, in a space common to all, their features. See `Amalgamator`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_amalgam.version import __version__ as __version__

if TYPE_CHECKING:
    from keras_amalgam import tasks as tasks
    from keras_amalgam.experiments.amalgamate import amalgamate as amalgamate
    from keras_amalgam.images.preprocessing import Preprocessing as Preprocessing
    from keras_amalgam.models import taps as taps
    from keras_amalgam.models.batch import Batch as Batch
    from keras_amalgam.models.runtime_teacher import RuntimeTeacher as RuntimeTeacher
    from keras_amalgam.models.signals import Signals as Signals
    from keras_amalgam.models.student import build_student as build_student
    from keras_amalgam.models.taps import Tap as Tap
    from keras_amalgam.models.teacher import Teacher as Teacher
    from keras_amalgam.tasks.label_space import LabelSpace as LabelSpace
    from keras_amalgam.terms import AmalgamationTerm as AmalgamationTerm
    from keras_amalgam.terms import CommonFeatures as CommonFeatures
    from keras_amalgam.terms import Hints as Hints
    from keras_amalgam.terms import LayerwiseCodes as LayerwiseCodes
    from keras_amalgam.terms import LogitRegression as LogitRegression
    from keras_amalgam.terms import OrthogonalProjection as OrthogonalProjection
    from keras_amalgam.terms import RebuiltFeatures as RebuiltFeatures
    from keras_amalgam.terms import RelationalTargets as RelationalTargets
    from keras_amalgam.terms import SoftTargets as SoftTargets
    from keras_amalgam.terms import StandardizedHeads as StandardizedHeads
    from keras_amalgam.training.amalgamator import Amalgamator as Amalgamator

# Where each public name lives. They are imported when first used, so that the command line answers
# at once and can quieten TensorFlow before TensorFlow is imported.
_HOMES = {
    "Amalgamator": "training.amalgamator",
    "Batch": "models.batch",
    "Signals": "models.signals",
    "LabelSpace": "tasks.label_space",
    "Preprocessing": "images.preprocessing",
    "RuntimeTeacher": "models.runtime_teacher",
    "build_student": "models.student",
    "Tap": "models.taps",
    "Teacher": "models.teacher",
    "amalgamate": "experiments.amalgamate",
    "AmalgamationTerm": "terms",
    "CommonFeatures": "terms",
    "Hints": "terms",
    "LayerwiseCodes": "terms",
    "LogitRegression": "terms",
    "OrthogonalProjection": "terms",
    "RebuiltFeatures": "terms",
    "RelationalTargets": "terms",
    "SoftTargets": "terms",
    "StandardizedHeads": "terms",
}

_MODULES = {"taps": "models.taps", "tasks": "tasks"}

__all__ = [
    "AmalgamationTerm",
    "Amalgamator",
    "Batch",
    "CommonFeatures",
    "Hints",
    "LabelSpace",
    "LayerwiseCodes",
    "LogitRegression",
    "OrthogonalProjection",
    "Preprocessing",
    "RebuiltFeatures",
    "RelationalTargets",
    "RuntimeTeacher",
    "Signals",
    "SoftTargets",
    "StandardizedHeads",
    "Tap",
    "Teacher",
    "__version__",
    "amalgamate",
    "build_student",
    "taps",
    "tasks",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        importlib.import_module("keras_amalgam.backend")
    if name in _MODULES:
        return importlib.import_module(f"keras_amalgam.{_MODULES[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_amalgam' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"keras_amalgam.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
