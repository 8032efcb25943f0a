"""The page's drawings: inline SVG that takes its colours and its font from the page."""

import base64
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from keras_amalgam.evaluation.embedding import CommonSpace

NUM_SERIES = 10

# Placeholders that matplotlib writes and `_svg` replaces by the page's own colours, which differ
# between light and dark.
_INK, _MUTED, _RULE, _PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
_SERIES = [f"#0a0c{index:02x}" for index in range(NUM_SERIES)]
_VARIABLES = {_INK: "ink", _MUTED: "muted", _RULE: "rule", _PAPER: "paper"} | {
    color: f"series-{index}" for index, color in enumerate(_SERIES)
}
_DASHES = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2))]
_LABEL_GAP = 2.0  # pixels of 1/100 inch
_MAX_SWEEPS = 200
_TEACHER_MARKERS = ["s", "^", "D", "v", "P", "X"]
_ARTIFACT_MARKERS = ["D", "^", "v", "P", "X"]
_SIGNS = {"o": "●", "s": "□", "^": "△", "D": "◇", "v": "▽", "P": "✚", "X": "✖"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "keras-amalgam",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _MUTED,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def accuracies(
    rows: Sequence[tuple[str, Mapping[str, tuple[float, float]]]], models: Sequence[str]
) -> str:
    """Accuracies as dots with their error bars, one row each.

    Args:
        rows: `(name, {model: (accuracy, standard error)})`, fractions.
        models: All models: the teacher, the student, then its artifacts. A model has one marker
            and one height in every row.

    Returns:
        SVG.
    """
    spread = np.linspace(-0.22, 0.22, len(models))

    def draw(axes: Axes) -> None:
        for place, (_, values) in enumerate(rows):
            for model, (value, error) in values.items():
                number = models.index(model)
                axes.errorbar(
                    100 * value,
                    place + spread[number],
                    xerr=100 * error,
                    fmt=_accuracy_marker(number),
                    color=_INK if number else _MUTED,
                    markerfacecolor=_INK if number == 1 else "none",
                    markersize=6,
                    elinewidth=1.2,
                )
        names = [name for name, _ in rows]
        axes.set_yticks(range(len(rows)), names, color=_INK, parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("accuracy, %")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)

    return _svg(draw, (4.4, 0.75 + 0.5 * len(rows)), "accuracies")


def accuracy_signs(num_models: int) -> list[str]:
    """Legend of `accuracies`: each model's marker as a character that looks like it."""
    return [_SIGNS[_accuracy_marker(number)] for number in range(num_models)]


def curves(
    series: Sequence[tuple[str, Sequence[float | None]]], colors: Mapping[str, int], name: str
) -> str:
    """One panel of a loss over the epochs, logarithmic where it spans more than a decade.

    Args:
        series: `(name, values per epoch)`, `None` where an epoch has none.
        colors: Which of the page's series colours, and dashes, a name has; others are drawn in ink.
        name: Of the panel, distinct on the page.

    Returns:
        SVG.
    """
    lines = [(name, np.array(values, dtype="float64")) for name, values in series]
    values = np.concatenate([values[np.isfinite(values)] for _, values in lines])

    def draw(axes: Axes) -> None:
        for line, losses in lines:
            index = colors.get(line)
            color = _INK if index is None else _SERIES[index % NUM_SERIES]
            dash = "-" if index is None else _DASHES[index % len(_DASHES)]
            epochs = range(1, len(losses) + 1)
            marker = "o" if len(losses) == 1 else ""
            axes.plot(epochs, losses, color=color, linestyle=dash, marker=marker, markersize=4)
        if values.min() > 0 and values.max() > 10 * values.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")

    return _svg(draw, (3.5, 2.2), f"curves-{name}")


def space_by_task(space: CommonSpace, student: str, colors: Mapping[str, int]) -> str:
    """The common space coloured by the images' task, the models told apart by their markers."""

    def draw(axes: Axes) -> None:
        for task in sorted(set(space.task.tolist()), key=colors.__getitem__):
            color = _SERIES[colors[task] % NUM_SERIES]
            _scatter(axes, space, space.task == task, student, color)
        _bare(axes)

    return _svg(draw, (4.4, 4.2), "space")


def space_by_class(space: CommonSpace, student: str, task: str) -> str:
    """The images of one task coloured by class, each class named at the student's points."""
    classes = sorted(set(space.label[space.task == task].tolist()))

    def draw(axes: Axes) -> None:
        for index, name in enumerate(classes):
            shown = (space.task == task) & (space.label == name)
            _scatter(axes, space, shown, student, _SERIES[index % NUM_SERIES])
        _bare(axes)
        centers = {}
        for name in classes:
            shown = (space.task == task) & (space.label == name)
            own = shown & (space.model == student)
            centers[name] = np.median(space.points[own if own.any() else shown], axis=0)
        _label(axes, centers)

    return _svg(draw, (4.4, 4.2), f"space-{task}")


def markers(models: Sequence[str], student: str) -> dict[str, str]:
    """Legend: each model's marker as a character that looks like it."""
    return {model: _SIGNS[marker] for model, marker in _markers(models, student).items()}


def png(image: np.ndarray) -> str:
    """An image `(height, width, channels)` in 0..255 as a `data:` address."""
    pixels = np.clip(np.rint(image), 0, 255).astype("uint8")
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, pixels, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _accuracy_marker(number: int) -> str:
    """Of the teacher, the student and its artifacts, in this order."""
    first = ["s", "o"]
    return [*first, *_ARTIFACT_MARKERS][min(number, 1 + len(_ARTIFACT_MARKERS))]


def _markers(models: Sequence[str], student: str) -> dict[str, str]:
    teachers = itertools.cycle(_TEACHER_MARKERS)
    return {model: "o" if model == student else next(teachers) for model in models}


def _scatter(axes: Axes, space: CommonSpace, shown: np.ndarray, student: str, color: str) -> None:
    models = list(dict.fromkeys(space.model.tolist()))
    for model, marker in _markers(models, student).items():
        x, y = space.points[shown & (space.model == model)].T
        face = color if model == student else "none"
        axes.scatter(
            x, y, s=16, marker=marker, facecolors=face, edgecolors=color, linewidths=0.9, alpha=0.75
        )


def _bare(axes: Axes) -> None:
    axes.set_axis_off()
    axes.margins(0.04)


def _label(axes: Axes, centers: Mapping[str, np.ndarray]) -> None:
    """Names at their centres in the data, moved no further than their boxes need to stay apart."""
    texts = [
        axes.text(x, y, name, ha="center", va="center", parse_math=False, weight="bold")
        for name, (x, y) in centers.items()
    ]
    for text in texts:
        text.set_in_layout(False)  # the drawing must not change its scale once names are placed
    figure: Any = axes.get_figure(root=True)
    figure.draw_without_rendering()
    boxes = np.array([text.get_window_extent().get_points() for text in texts])
    low, high = axes.bbox.get_points()
    sizes = boxes[:, 1] - boxes[:, 0] + _LABEL_GAP
    placed = _apart(boxes.mean(axis=1), sizes, low, high)
    for text, point in zip(texts, axes.transData.inverted().transform(placed), strict=True):
        text.set_position(point)


def _apart(centers: np.ndarray, sizes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Centres of boxes moved into `low..high` and, upwards or downwards, off each other.

    A pair of boxes that overlap is moved by half each, in turn, until no pair overlaps. Pairs keep
    their order in height, so that there is always a solution if there is room.

    Args:
        centers: `(boxes, 2)`.
        sizes: Widths and heights, `(boxes, 2)`.
        low: Lower left corner of the room, `(2,)`.
        high: Upper right corner of the room, `(2,)`.
    """
    lowest, highest = low + sizes / 2, np.maximum(high - sizes / 2, low + sizes / 2)
    placed = np.clip(centers, lowest, highest)
    pairs = [
        (below, above)
        for below, above in itertools.combinations(np.argsort(placed[:, 1], kind="stable"), 2)
        if abs(placed[below, 0] - placed[above, 0]) < (sizes[below, 0] + sizes[above, 0]) / 2
    ]
    for _ in range(_MAX_SWEEPS):
        before = placed.copy()
        for below, above in pairs:
            wanted = (sizes[below, 1] + sizes[above, 1]) / 2
            missing = max(0.0, wanted - (placed[above, 1] - placed[below, 1]))
            placed[below, 1] -= missing / 2
            placed[above, 1] += missing / 2
        placed = np.clip(placed, lowest, highest)
        if np.allclose(placed, before, atol=0.01):
            break
    return placed


def _svg(draw: Callable[[Axes], None], size: tuple[float, float], name: str) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true">', text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r" ?font-family: [^;\"]*;?", "", text)  # the page's font
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    # Several drawings stand in one document: keep their ids apart.
    prefix = re.sub(r"\W", "", name) or "figure"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", text)
    return re.sub(r"\s*\n\s*", " ", text).strip()
