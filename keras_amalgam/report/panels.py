"""Groups of drawings for the page: loss curves, the common space, the samples."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from keras_amalgam.evaluation.embedding import CommonSpace
from keras_amalgam.evaluation.samples import Opinion, Sample
from keras_amalgam.report import figures, formats

_LEARNING_RATES = ("learning_rate", "lr")
_SUM = "sum"


def series_colors(
    tasks: Iterable[str],
    history: Mapping[str, Sequence[float | None]] | None,
    space: CommonSpace | None,
) -> dict[str, int]:
    """The page's series colour of each task and its teacher: the tasks' first, in their order.

    Args:
        tasks: The report's tasks.
        history: As for `loss_panels`; teachers that are no task come after.
        space: As for `space_view`; other tasks come last.
    """
    drawn = history_teachers(history or {}) + (space.task.tolist() if space else [])
    return {name: index for index, name in enumerate(dict.fromkeys([*tasks, *drawn]))}


def loss_panels(
    history: Mapping[str, Sequence[float | None]], colors: Mapping[str, int]
) -> list[dict[str, Any]]:
    """One panel each for the loss, every term, every component of a term and the learning rate.

    Args:
        history: Values per epoch under the keys `loss`, `<term>`, `<term>/<teacher>` and
            `<term>/<teacher>/<component>`, as Keras' `History` has them.
        colors: From `series_colors`.

    Returns:
        Panels in the order of the history, the learning rate last.
    """
    terms = list(dict.fromkeys(key.split("/")[0] for key in history))
    grouped: dict[tuple[str, ...], list[tuple[str, Sequence[float | None]]]] = {}
    for key, values in history.items():
        term, *rest = key.split("/")
        grouped.setdefault((term, *rest[1:]), []).append((rest[0] if rest else _SUM, values))
    ordered = sorted(
        grouped, key=lambda name: (name[0] in _LEARNING_RATES, terms.index(name[0]), len(name))
    )
    return [_loss_panel(" · ".join(name), grouped[name], colors) for name in ordered]


def history_teachers(history: Mapping[str, Sequence[float | None]]) -> list[str]:
    """Teachers that the history names, in its order."""
    return list(dict.fromkeys(key.split("/")[1] for key in history if "/" in key))


def curve_legend(
    history: Mapping[str, Sequence[float | None]], colors: Mapping[str, int]
) -> list[dict[str, str]]:
    """What the lines of `loss_panels` mean: ink for a sum, a colour and dash for each teacher."""
    dashes = ["none", "5 2", "1.5 1.5", "6 2 1.5 2"]
    legend = [{"name": _SUM, "color": "ink", "dash": "none"}]
    for teacher in sorted(history_teachers(history), key=colors.__getitem__):
        index = colors[teacher]
        color = f"series-{index % figures.NUM_SERIES}"
        legend.append({"name": teacher, "color": color, "dash": dashes[index % len(dashes)]})
    return legend


def space_view(space: CommonSpace, student: str, colors: Mapping[str, int]) -> dict[str, Any]:
    """The common space by task, then each task by class, with the legend of markers and colours.

    Args:
        space: From `common_space`.
        student: Which of its models is the student.
        colors: From `series_colors`; the tasks stand in its order.
    """
    tasks = sorted(set(space.task.tolist()), key=colors.__getitem__)
    models = list(dict.fromkeys(space.model.tolist()))
    signs = figures.markers(models, student)
    legend = [
        {
            "name": model if model == student else f"teacher {model}",
            "sign": signs[model],
            "color": "",
        }
        for model in models
    ]
    legend += [
        {
            "name": f"{task} images",
            "sign": "■",
            "color": f"series-{colors[task] % figures.NUM_SERIES}",
        }
        for task in tasks
    ]
    who = formats.words(models)
    panels = [
        {
            "title": "All test images shown, by task",
            "alt": f"Common features of {who} in the plane, coloured by task",
            "figure": Markup(figures.space_by_task(space, student, colors)),
        }
    ]
    panels += [
        {
            "title": f"{task}, by class",
            "alt": f"Common features of {who} for {task} images, coloured by class",
            "figure": Markup(figures.space_by_class(space, student, task)),
        }
        for task in tasks
    ]
    return {
        "legend": legend,
        "panels": panels,
        "num_points": formats.count(len(space.points)),
        "seed": space.seed,
    }


def sample_groups(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Samples by task, those drawn from all images before those drawn from the mistakes."""
    grouped: dict[tuple[str, bool], list[Sample]] = {}
    for sample in samples:
        grouped.setdefault((sample.task, sample.mistake), []).append(sample)
    drawn_from = {False: "drawn from all test images", True: "drawn from the student’s mistakes"}
    return [
        {"title": f"{task}: {drawn_from[mistake]}", "samples": [_sample(one) for one in members]}
        for (task, mistake), members in grouped.items()
    ]


def _loss_panel(
    title: str, series: list[tuple[str, Sequence[float | None]]], colors: Mapping[str, int]
) -> dict[str, Any]:
    last = ", ".join(
        f"{name} {_last(values)}" if len(series) > 1 else _last(values)
        for name, values in sorted(series, key=lambda line: line[0] in colors)
    )
    epochs = len(series[0][1])
    return {
        "title": title.replace("_", " "),
        "last": last,
        "alt": f"{title} over {epochs} epochs; last epoch: {last}",
        "figure": Markup(figures.curves(series, colors, title)),
    }


def _last(values: Sequence[float | None]) -> str:
    """The last value, of a loss that a later stage does not have its last one there."""
    return formats.scalar([value for value in values if value is not None][-1])


def _sample(sample: Sample) -> dict[str, Any]:
    student, teacher = _said(sample.student), _said(sample.teacher)
    return {
        "image": figures.png(sample.image),
        "alt": f"{sample.task} test image, {sample.label}; student: {student}; teacher: {teacher}",
        "label": sample.label,
        "opinions": [
            _opinion("Student", sample.student, sample),
            _opinion("Teacher", sample.teacher, sample),
        ],
        "right": sample.student.label == sample.label,
    }


def _opinion(who: str, opinion: Opinion, sample: Sample) -> dict[str, Any]:
    right = opinion.label == sample.label
    percent = 100 * opinion.confidence
    return {
        "who": who,
        "right": right,
        "label": "" if right else opinion.label,
        "confidence": "> 99 %" if 99.5 <= percent < 100 else f"{percent:.0f} %",
    }


def _said(opinion: Opinion) -> str:
    return f"{opinion.label} {100 * opinion.confidence:.1f} %"
