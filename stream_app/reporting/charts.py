"""Charts of a report: each function returns one inline SVG element, readable on light and on dark pages.

Text and axes take the colour of the page (`currentColor`); curves have colours of medium lightness. Needs matplotlib.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec

import numpy as np

_INK: Final = "#010203"  # placeholder for the page's text colour
# Okabe and Ito's palette without its black: distinguishable with colour blindness.
_COLOURS: Final = ("#0a84c6", "#d95f02", "#009e73", "#cc79a7", "#b8860b", "#7b68ee", "#56b4e9")
_STYLE: Final[Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, in the page's font
    "svg.hashsalt": "millrace",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_GUIDE: Final[Any] = {"color": _INK, "linewidth": 0.7, "linestyle": ":"}
_MAX_NUMBERED_CLASSES: Final = 12  # up to so many classes the cells of a matrix show their numbers
_SIZE: Final = (3.6, 3.0)  # inches

Axes = Any  # matplotlib's class; importing it here would slow every command down
Curve = Mapping[str, Sequence[float]]
Sweep = Mapping[str, Sequence[float | None]]
Epochs = Sequence[Mapping[str, Any]]
P = ParamSpec("P")


def _svg(draw: Callable[Concatenate[Axes, P], None]) -> Callable[P, str]:
    """Turn a function that draws on axes into one that returns inline SVG."""

    @wraps(draw)
    def chart(*arguments: P.args, **options: P.kwargs) -> str:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=_SIZE, layout="constrained")
            draw(figure.add_subplot(), *arguments, **options)
            file = io.StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text = file.getvalue()
        element = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
        return element.replace(_INK, "currentColor").strip()

    return chart


@_svg
def reliability(axes: Axes, curve: Curve) -> None:
    """Draw predicted probability against observed frequency; the area of a point grows with the root of its rows."""
    axes.plot([0, 1], [0, 1], **_GUIDE)
    rows = np.asarray(curve["rows"], np.float64)
    axes.plot(curve["says"], curve["happened"], color=_COLOURS[0], linewidth=0.6, alpha=0.6)
    areas = 6.0 + 60.0 * np.sqrt(rows / rows.max(initial=1.0))
    axes.scatter(curve["says"], curve["happened"], s=areas, color=_COLOURS[0], clip_on=False, zorder=3)
    axes.set(xlabel="predicted probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))


@_svg
def precision_recall(axes: Axes, curve: Curve, area: float, prevalence: float) -> None:
    """Draw precision against recall."""
    axes.axhline(prevalence, **_GUIDE)
    axes.step(curve["recall"], curve["precision"], color=_COLOURS[1], where="pre", label=f"average precision {area:.4f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="best")


@_svg
def precision_recalls(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Draw precision against recall of every contender."""
    for place, (name, curve) in enumerate(curves.items()):
        cycle, colour = divmod(place, len(_COLOURS))
        style = {"color": _COLOURS[colour], "linestyle": ("-", "--", ":")[cycle % 3]}
        axes.step(curve["recall"], curve["precision"], where="pre", label=name, **style)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="best", fontsize=7)


@_svg
def roc(axes: Axes, curve: Curve, auc: float) -> None:
    """Draw recall against the false positive rate."""
    axes.plot([0, 1], [0, 1], **_GUIDE)
    axes.plot(curve["false_positives"], curve["recall"], color=_COLOURS[0], label=f"area {auc:.4f}")
    axes.set(xlabel="false positives, share of the negatives", ylabel="recall", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right")


@_svg
def confusion(axes: Axes, counts: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Draw the share of each predicted class among the rows of each label."""
    numbers = np.asarray(counts, np.float64)
    _matrix(axes, numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1.0), names, "Blues", 0.0)
    axes.set(xlabel="prediction", ylabel="label")


@_svg
def gradient_cosines(axes: Axes, cosines: Mapping[str, float], tasks: Sequence[str]) -> None:
    """Draw the cosine between the tasks' gradients on shared parameters; `cosines` by "a|b"."""
    values = np.eye(len(tasks))
    for pair, value in cosines.items():
        a, b = (tasks.index(name) for name in pair.split("|"))
        values[a, b] = values[b, a] = value
    _matrix(axes, values, tasks, "RdBu", -1.0)


@_svg
def learning(axes: Axes, epochs: Epochs, task: str) -> None:
    """Draw a task's loss by epoch, on the training and on the validation range."""
    for part, colour in (("train", _COLOURS[0]), ("validation", _COLOURS[1])):
        _by_epoch(axes, epochs, part, task, color=colour, label=part)
    axes.set(xlabel="epoch", ylabel=f"loss of {task}")
    axes.legend(loc="best")


@_svg
def task_weights(axes: Axes, epochs: Epochs) -> None:
    """Draw the weights that balancing gave the tasks, by epoch."""
    for place, task in enumerate(epochs[-1]["weights"]):
        _by_epoch(axes, epochs, "weights", task, color=_COLOURS[place % len(_COLOURS)], label=task)
    axes.set(xlabel="epoch", ylabel="weight of the task's loss")
    axes.legend(loc="best")


@_svg
def intervals(axes: Axes, figures: Mapping[str, Mapping[str, float | None]], published: Mapping[str, float], label: str) -> None:
    """Draw one figure of every contender with its interval; published values as lines."""
    names = [name for name, figure in figures.items() if figure["value"] is not None]
    for place, name in enumerate(reversed(names)):
        figure = figures[name]
        colour = _COLOURS[(len(names) - 1 - place) % len(_COLOURS)]
        axes.plot([figure["low"], figure["high"]], [place, place], color=colour, linewidth=2)
        axes.plot([figure["value"]], [place], color=colour, marker="o", markersize=5)
    for number, (name, value) in enumerate(published.items()):
        axes.axvline(value, color=_INK, linewidth=0.8, linestyle=(":", "--", "-.")[number % 3], label=name)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set(xlabel=label, ylim=(-0.6, len(names) - 0.4))
    if published:
        axes.legend(loc="lower left", fontsize=7)


@_svg
def sweep(axes: Axes, curve: Sweep, days: int, alerts_per_day: float | None, budget: int) -> None:
    """Draw precision, recall and value caught against alerts per day."""
    daily = np.asarray(curve["alerts"], np.float64) / max(1, days)
    for colour, name in zip(_COLOURS, ("precision", "recall", "value_caught"), strict=False):
        axes.plot(daily, np.array(curve[name], np.float64), color=colour, label=name.replace("_", " "))
    if alerts_per_day:
        axes.axvline(alerts_per_day, color=_INK, linewidth=0.8, linestyle=":", label="as decided")
    axes.axvline(budget, color=_INK, linewidth=0.8, linestyle="--", label="daily budget")
    axes.set(xlabel="alerts a day", ylim=(0, 1.01), xscale="symlog", xlim=(0, None))
    axes.legend(loc="best", fontsize=7)


@_svg
def costs(axes: Axes, curve: Sweep, days: int, decided: tuple[float | None, float | None]) -> None:
    """Draw cost per day against alerts per day; `decided` are the alerts and the cost per day of the actual decisions."""
    daily = np.asarray(curve["alerts"], np.float64) / max(1, days)
    cost = np.asarray(curve["cost"], np.float64) / max(1, days)
    best = int(np.argmin(cost))
    axes.plot(daily, cost, color=_COLOURS[0])
    axes.plot([daily[best]], [cost[best]], color=_COLOURS[2], marker="v", label=f"least: {cost[best]:,.0f} a day")
    if None not in decided:
        axes.plot(*[[value] for value in decided], color=_COLOURS[1], marker="o", label=f"as decided: {decided[1]:,.0f}")
    axes.axhline(cost[0], color=_INK, linewidth=0.8, linestyle=":", label=f"no alert: {cost[0]:,.0f}")
    axes.set(xlabel="alerts a day", ylabel="cost a day", xscale="symlog", xlim=(0, None), ylim=(0, 1.6 * cost[0] or None))
    axes.legend(loc="best", fontsize=7)


def _by_epoch(axes: Axes, epochs: Epochs, part: str, task: str, **style: Any) -> None:  # noqa: ANN401  # matplotlib's options
    values = [epoch.get(part, {}).get(task, np.nan) for epoch in epochs]
    axes.plot([epoch["epoch"] for epoch in epochs], values, marker="o", markersize=3, **style)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _matrix(axes: Axes, values: Any, names: Sequence[str], colours: str, low: float) -> None:  # noqa: ANN401  # an array
    """Draw values (N, N) of pairs, from `low` to 1."""
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=1.0)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)
    if len(names) > _MAX_NUMBERED_CLASSES:
        axes.set(xticks=[], yticks=[])
        return
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (row, column), value in np.ndenumerate(values):
        dark = abs(value) > 0.6  # the cell, on any page
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if dark else "#222222")
