"""Pictures of a report, each one inline SVG that asks nobody for anything and is readable on light and on dark.

Lines of text and axes take the colour of the page (`currentColor`); curves take colours of middling lightness.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

import numpy as np

__all__ = ["Pictures"]

_INK: Final = "#010203"  # stands for the colour of the page's text until the picture is written
# Okabe and Ito's palette without its black, told apart by the colour-blind too.
_COLOURS: Final = ("#0a84c6", "#d95f02", "#009e73", "#cc79a7", "#b8860b", "#7b68ee", "#56b4e9")
_STYLE: Final[Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
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
_MOST_NUMBERS: Final = 12  # classes up to which a matrix shows its numbers
_SIZE: Final = (3.6, 3.0)  # inches

Curve = Mapping[str, Sequence[float]]


class Pictures:
    """Draws pictures for one page; names inside them are its own, so that two of them never mix up."""

    def __init__(self) -> None:
        self._numbers = count()

    def reliability(self, curve: Curve) -> str:
        """Draw what is claimed against what happens."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # matplotlib's type, which is heavy to import
            axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.7, linestyle=":")
            axes.plot(curve["says"], curve["happened"], color=_COLOURS[0], marker="o", markersize=3.5)
            axes.set(xlabel="probability that is claimed", ylabel="share that happened", xlim=(0, 1), ylim=(0, 1))

        return self._picture(draw)

    def roc(self, curve: Curve, auc: float) -> str:
        """Draw recall against false positives."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.7, linestyle=":")
            axes.plot(curve["false_positives"], curve["recall"], color=_COLOURS[0], label=f"area {auc:.4f}")
            axes.set(xlabel="false positives, share of the negatives", ylabel="recall", xlim=(0, 1), ylim=(0, 1.01))
            axes.legend(loc="lower right")

        return self._picture(draw)

    def precision_recall(self, curve: Curve, area: float, prevalence: float) -> str:
        """Draw precision against recall."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            axes.axhline(prevalence, color=_INK, linewidth=0.7, linestyle=":")
            axes.step(curve["recall"], curve["precision"], color=_COLOURS[1], where="pre", label=f"average precision {area:.4f}")
            axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
            axes.legend(loc="best")

        return self._picture(draw)

    def confusion(self, counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
        """Draw shares of each label's rows by answer."""
        numbers = np.asarray(counts, np.float64)
        shares = numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1.0)

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            self._matrix(axes, shares, names, "Blues", 0.0)
            axes.set(xlabel="answer", ylabel="label")

        return self._picture(draw)

    def learning(self, epochs: Sequence[Mapping[str, Any]], task: str) -> str:
        """Draw a task's loss by epoch, in training and on the validation range."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            numbers = [epoch["epoch"] for epoch in epochs]
            for part, colour in (("train", _COLOURS[0]), ("validation", _COLOURS[1])):
                losses = [epoch.get(part, {}).get(task, np.nan) for epoch in epochs]
                axes.plot(numbers, losses, color=colour, marker="o", markersize=3, label=part)
            axes.set(xlabel="epoch", ylabel=f"loss of {task}")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best")

        return self._picture(draw)

    def weights(self, epochs: Sequence[Mapping[str, Any]]) -> str:
        """Draw the weights that balancing gave the tasks, by epoch."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            numbers = [epoch["epoch"] for epoch in epochs]
            for place, task in enumerate(epochs[-1]["weights"]):
                values = [epoch.get("weights", {}).get(task, np.nan) for epoch in epochs]
                axes.plot(numbers, values, color=_COLOURS[place % len(_COLOURS)], marker="o", markersize=3, label=task)
            axes.set(xlabel="epoch", ylabel="weight of the task's loss")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best")

        return self._picture(draw)

    def conflict(self, cosines: Mapping[str, float], tasks: Sequence[str]) -> str:
        """Draw the cosine between the tasks' gradients on what they share; `cosines` by "a|b"."""
        matrix = np.eye(len(tasks))
        for pair, value in cosines.items():
            a, b = (tasks.index(name) for name in pair.split("|"))
            matrix[a, b] = matrix[b, a] = value

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            self._matrix(axes, matrix, tasks, "RdBu", -1.0)

        return self._picture(draw)

    @staticmethod
    def _matrix(axes: Any, values: Any, names: Sequence[str], colours: str, low: float) -> None:  # noqa: ANN401  # as above
        shown = axes.imshow(values, cmap=colours, vmin=low, vmax=1.0)
        axes.figure.colorbar(shown, ax=axes, shrink=0.8)
        if len(names) > _MOST_NUMBERS:
            axes.set(xticks=[], yticks=[])
            return
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axes.set_yticks(range(len(names)), names)
        for (row, column), value in np.ndenumerate(values):
            dark = abs(value) > 0.6  # the cell, whatever the page
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if dark else "#222222")

    def _picture(self, draw: Any) -> str:  # noqa: ANN401  # a function of matplotlib's axes
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=_SIZE, layout="constrained")
            draw(figure.add_subplot())
            written = io.StringIO()
            figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
        return _inline(written.getvalue(), f"p{next(self._numbers)}-")


def _inline(svg: str, prefix: str) -> str:
    """Cut a whole SVG file down to an element: no prologue, no metadata, names with `prefix`, ink in the page's colour."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return svg.replace(_INK, "currentColor").strip()
