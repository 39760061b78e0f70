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

__all__ = ["COLOURS", "INK", "Charts"]

INK: Final = "#010203"  # stands for the colour of the page's text until the picture is written
# Okabe and Ito's palette without its black, told apart by the colour-blind too.
COLOURS: Final = ("#0a84c6", "#d95f02", "#009e73", "#cc79a7", "#b8860b", "#7b68ee", "#56b4e9")
_STYLE: Final[Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "svg.hashsalt": "millrace",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_MOST_NUMBERS: Final = 12  # classes up to which a matrix shows its numbers
_SIZE: Final = (3.6, 3.0)  # inches

Curve = Mapping[str, Sequence[float]]


class Charts:
    """Draws pictures for one page; names inside them are its own, so that two of them never mix up."""

    def __init__(self) -> None:
        self._numbers = count()

    def reliability(self, curve: Curve) -> str:
        """Draw what is claimed against what happens; the area of a point goes with the root of its rows."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # matplotlib's type, which is heavy to import
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
            rows = np.asarray(curve["rows"], np.float64)
            axes.plot(curve["says"], curve["happened"], color=COLOURS[0], linewidth=0.6, alpha=0.6)
            areas = 6.0 + 60.0 * np.sqrt(rows / rows.max(initial=1.0))
            axes.scatter(curve["says"], curve["happened"], s=areas, color=COLOURS[0], clip_on=False, zorder=3)
            axes.set(xlabel="probability that is claimed", ylabel="share that happened", xlim=(0, 1), ylim=(0, 1))

        return self.picture(draw)

    def precision_recall(self, curve: Curve, area: float, prevalence: float) -> str:
        """Draw precision against recall."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            axes.axhline(prevalence, color=INK, linewidth=0.7, linestyle=":")
            axes.step(curve["recall"], curve["precision"], color=COLOURS[1], where="pre", label=f"average precision {area:.4f}")
            axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
            axes.legend(loc="best")

        return self.picture(draw)

    def confusion(self, counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
        """Draw shares of each label's rows by answer."""
        numbers = np.asarray(counts, np.float64)
        shares = numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1.0)

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            self.matrix(axes, shares, names, "Blues", 0.0)
            axes.set(xlabel="answer", ylabel="label")

        return self.picture(draw)

    @staticmethod
    def matrix(axes: Any, values: Any, names: Sequence[str], colours: str, low: float) -> None:  # noqa: ANN401  # as above
        """Draw values (N, N) of pairs, from `low` to 1."""
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

    def picture(self, draw: Any) -> str:  # noqa: ANN401  # a function of matplotlib's axes
        """Return what `draw` draws as inline SVG."""
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
    return svg.replace(INK, "currentColor").strip()
