"""Pictures of a training's report: those that backtests draw too (`stream_app.reporting.charts`), and how it was learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stream_app.reporting import charts
from stream_app.reporting.charts import COLOURS, INK, Curve

__all__ = ["TrainingCharts"]


class TrainingCharts(charts.Charts):
    """Draws pictures for one page."""

    def roc(self, curve: Curve, auc: float) -> str:
        """Draw recall against false positives."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
            axes.plot(curve["false_positives"], curve["recall"], color=COLOURS[0], label=f"area {auc:.4f}")
            axes.set(xlabel="false positives, share of the negatives", ylabel="recall", xlim=(0, 1), ylim=(0, 1.01))
            axes.legend(loc="lower right")

        return self.picture(draw)

    def learning(self, epochs: Sequence[Mapping[str, Any]], task: str) -> str:
        """Draw a task's loss by epoch, in training and on the validation range."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            numbers = [epoch["epoch"] for epoch in epochs]
            for part, colour in (("train", COLOURS[0]), ("validation", COLOURS[1])):
                losses = [epoch.get(part, {}).get(task, np.nan) for epoch in epochs]
                axes.plot(numbers, losses, color=colour, marker="o", markersize=3, label=part)
            axes.set(xlabel="epoch", ylabel=f"loss of {task}")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best")

        return self.picture(draw)

    def weights(self, epochs: Sequence[Mapping[str, Any]]) -> str:
        """Draw the weights that balancing gave the tasks, by epoch."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            numbers = [epoch["epoch"] for epoch in epochs]
            for place, task in enumerate(epochs[-1]["weights"]):
                values = [epoch.get("weights", {}).get(task, np.nan) for epoch in epochs]
                axes.plot(numbers, values, color=COLOURS[place % len(COLOURS)], marker="o", markersize=3, label=task)
            axes.set(xlabel="epoch", ylabel="weight of the task's loss")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best")

        return self.picture(draw)

    def conflict(self, cosines: Mapping[str, float], tasks: Sequence[str]) -> str:
        """Draw the cosine between the tasks' gradients on what they share; `cosines` by "a|b"."""
        matrix = np.eye(len(tasks))
        for pair, value in cosines.items():
            a, b = (tasks.index(name) for name in pair.split("|"))
            matrix[a, b] = matrix[b, a] = value

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            self.matrix(axes, matrix, tasks, "RdBu", -1.0)

        return self.picture(draw)
