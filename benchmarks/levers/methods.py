"""The ways of training a student that are compared, by the names of their rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from benchmarks.levers.settings import Setting, Views
from keras_amalgam import build_student, taps
from keras_amalgam.models import backbones
from keras_amalgam.terms import (
    CommonFeatures,
    Hints,
    OrthogonalProjection,
    RebuiltFeatures,
    RelationalTargets,
    SoftTargets,
)
from keras_amalgam.training import Method, Stage, cosine_adamw
from keras_amalgam.training.methods import matching, paper, proxy, reused_heads, standardized

# Channels of the students' blocks, so that all students have 93,000 weights, within two in a
# hundred: the backbone of those with reused heads is narrower, as their decoders stay in them.
WIDTH, REUSED_WIDTH, REUSED_UNITS = 116, 72, 48
# The large student of the proxy, 236,000.
LARGE = 192
TAP = "map"
# Stored of each image, unless a row says otherwise.
VIEWS = 3

MakeTerm = Callable[[Setting], Any]


@dataclass(frozen=True)
class Row:
    """One way of training.

    Args:
        method: Makes it from the setting, epochs and a seed.
        says: What it is, for the page.
        views: Shifted and mirrored images, or mixed up and zoomed ones as well.
        needs_source: Whether it is told whose collection an image is from.
        num_views: How many views of each image are stored; `None` for a new one in every epoch,
            which the teachers see live.
        needs_features: Whether the teachers' features are stored with their answers.
    """

    method: Callable[[Setting, int, int], Method]
    says: str
    views: Views = "plain"
    needs_source: bool = True
    num_views: int | None = VIEWS
    needs_features: bool = True


def student(setting: Setting, width: int = WIDTH) -> keras.Model:
    """A student with new heads on a compact backbone."""
    backbone = backbones.compact(setting.image_shape, width=width)
    return build_student(backbone, setting.teachers)


def _reusing_student(setting: Setting) -> keras.Model:
    backbone = backbones.compact(setting.image_shape, width=REUSED_WIDTH)
    return build_student(backbone, setting.teachers, heads="reused", units=REUSED_UNITS)


def _soft(ownership: str = "source", temperature: float | None = None, **settings: Any) -> MakeTerm:
    """Soft targets, at the benchmark's temperature unless another is given."""
    return lambda setting: SoftTargets(
        ownership=ownership, temperature=temperature or setting.temperature, **settings
    )


def _always(make: Callable[[], Any]) -> MakeTerm:
    return lambda setting: make()


def _one_stage(*terms: MakeTerm) -> Callable[[Setting, int, int], Method]:
    def method(setting: Setting, epochs: int, seed: int) -> Method:
        stage = Stage(
            lambda: [make(setting) for make in terms], epochs, cosine_adamw(setting.learning_rate)
        )
        return Method("terms", (stage,), seed=seed)

    return method


def _reused(setting: Setting, epochs: int, seed: int) -> Method:
    return reused_heads(
        setting.teachers,
        lambda: _reusing_student(setting),
        epochs=epochs,
        learning_rate=setting.learning_rate,
        seed=seed,
    )


def _reused_and_soft(setting: Setting, epochs: int, seed: int) -> Method:
    stage = Stage(
        lambda: [RebuiltFeatures(), _soft()(setting)],
        epochs,
        cosine_adamw(setting.learning_rate),
        student=lambda: _reusing_student(setting),
        student_tap=taps.rebuilt(setting.teachers),
    )
    return Method("reused_and_soft", (stage,), seed=seed)


def _proxy(setting: Setting, epochs: int, seed: int) -> Method:
    return proxy(
        setting.teachers,
        large=lambda: student(setting, LARGE),
        small=lambda: student(setting),
        epochs=(epochs // 2, epochs - epochs // 2),
        ownership="source",
        temperature=setting.temperature,
        learning_rate=setting.learning_rate,
        seed=seed,
    )


def _matching(setting: Setting, epochs: int, seed: int) -> Method:
    return matching(
        setting.teachers, epochs, "source", setting.temperature, setting.learning_rate, seed
    )


def _standardized(setting: Setting, epochs: int, seed: int) -> Method:
    return standardized(
        setting.teachers, epochs, "source", setting.temperature, 1.0, setting.learning_rate, seed
    )


def _relations(setting: Setting) -> RelationalTargets:
    return RelationalTargets(ownership="source", temperature=setting.temperature)


def _paper(setting: Setting, epochs: int, seed: int) -> Method:
    return paper(setting.teachers, epochs, setting.learning_rate, 128, seed)


def _of_views(num_views: int | None, says: str) -> Row:
    """source_and_task from so many views of each image."""
    method = _one_stage(_soft(), _soft("per_task", name="task_targets"))
    return Row(method, f"source_and_task, {says}", num_views=num_views, needs_features=False)


ROWS = {
    "joint": Row(
        _one_stage(_soft("joint")), "soft targets over all classes at once", needs_source=False
    ),
    "per_task": Row(
        _one_stage(_soft("per_task")),
        "soft targets, every teacher on every image",
        needs_source=False,
    ),
    "per_source": Row(_one_stage(_soft()), "soft targets, each teacher on its own images"),
    "source_and_task": Row(
        _one_stage(_soft(), _soft("per_task", name="task_targets")),
        "per_source and per_task together, as two terms",
    ),
    "at_one": Row(_one_stage(_soft(temperature=1.0)), "per_source at a temperature of 1"),
    "standardized_logits": Row(_one_stage(_soft(standardize=True)), "per_source, logits z-scored"),
    "standardized_at_one": Row(
        _one_stage(_soft(temperature=1.0, standardize=True)),
        "per_source, logits z-scored, at a temperature of 1",
    ),
    "relations": Row(_one_stage(_soft(), _relations), "per_source + `RelationalTargets()`"),
    "all_targets": Row(
        _one_stage(_soft(), _soft("per_task", name="task_targets"), _relations),
        "source_and_task + `RelationalTargets()`",
    ),
    "mixup_zoom": Row(
        _one_stage(_soft()), "per_source on views that are mixed up and zoomed, too", "mixed"
    ),
    "matching": Row(
        _matching, "mixup_zoom, clipped and averaged: `training.methods.matching`", "mixed"
    ),
    "standardized": Row(
        _standardized, "per_source + `StandardizedHeads()`: `training.methods.standardized`"
    ),
    "projection": Row(
        _one_stage(_soft(), _always(OrthogonalProjection)), "per_source + `OrthogonalProjection()`"
    ),
    "hints": Row(_one_stage(_soft(), _always(Hints)), "per_source + `Hints()`"),
    "pooled_space": Row(
        _one_stage(_soft(), _always(lambda: CommonFeatures(units=64, weight=1.0, pooled=True))),
        "per_source + `CommonFeatures(units=64, weight=1.0, pooled=True)`",
    ),
    "pooled_common_space": Row(
        _one_stage(
            _soft(),
            _soft("per_task", name="task_targets"),
            _always(lambda: CommonFeatures(units=64, weight=0.1, pooled=True)),
        ),
        "source_and_task + `CommonFeatures(units=64, weight=0.1, pooled=True)`",
    ),
    "common_space": Row(
        _one_stage(
            _soft(),
            _soft("per_task", name="task_targets"),
            _always(lambda: CommonFeatures(units=64, weight=0.1)),
        ),
        "source_and_task + `CommonFeatures(units=64, weight=0.1)`",
    ),
    "reused_heads": Row(
        _reused,
        "the teachers' own heads, features alone: `training.methods.reused_heads`",
        needs_source=False,
    ),
    "reused_and_soft": Row(
        _reused_and_soft, "the teachers' own heads, features and per_source soft targets"
    ),
    "proxy": Row(_proxy, "half of the epochs a large student, half from it"),
    "paper": Row(_paper, "`training.methods.paper` at this benchmark's rate", needs_source=False),
    "paper_subspace": Row(
        _one_stage(
            _always(lambda: SoftTargets(ownership="joint")),
            _always(lambda: CommonFeatures(units=128, weight=10.0, subspace=64)),
        ),
        "paper's terms, features in each teacher's 64 principal directions",
        needs_source=False,
    ),
    "one_view": _of_views(1, "one view of each image"),
    "two_views": _of_views(2, "two views of each image"),
    "four_views": _of_views(4, "four views of each image"),
    "eight_views": _of_views(8, "eight views of each image"),
    "fresh_views": _of_views(None, "a new view of each image in every epoch"),
}
