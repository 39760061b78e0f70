"""Pictures of a backtest's report: candidates side by side, and what other thresholds would have come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stream_app.reporting.charts import COLOURS, INK, Charts

__all__ = ["BacktestCharts"]


class BacktestCharts(Charts):
    """Draws pictures for one page."""

    def intervals(self, figures: Mapping[str, Mapping[str, float | None]], published: Mapping[str, float], label: str) -> str:
        """Draw one figure of every candidate with its interval; published values as lines."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # matplotlib's type, which is heavy to import
            names = [name for name, figure in figures.items() if figure["value"] is not None]
            for place, name in enumerate(reversed(names)):
                figure = figures[name]
                colour = COLOURS[(len(names) - 1 - place) % len(COLOURS)]
                axes.plot([figure["low"], figure["high"]], [place, place], color=colour, linewidth=2)
                axes.plot([figure["value"]], [place], color=colour, marker="o", markersize=5)
            for number, (name, value) in enumerate(published.items()):
                axes.axvline(value, color=INK, linewidth=0.8, linestyle=(":", "--", "-.")[number % 3], label=name)
            axes.set_yticks(range(len(names)), list(reversed(names)))
            axes.set(xlabel=label, ylim=(-0.6, len(names) - 0.4))
            if published:
                axes.legend(loc="lower left", fontsize=7)

        return self.picture(draw)

    def precision_recalls(self, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
        """Draw precision against recall, of every candidate."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            for place, (name, curve) in enumerate(curves.items()):
                again, colour = divmod(place, len(COLOURS))
                style = {"color": COLOURS[colour], "linestyle": ("-", "--", ":")[again % 3]}
                axes.step(curve["recall"], curve["precision"], where="pre", label=name, **style)
            axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
            axes.legend(loc="best", fontsize=7)

        return self.picture(draw)

    def sweep(self, curve: Mapping[str, Sequence[float | None]], days: int, alerts_per_day: float | None, budget: int) -> str:
        """Draw precision, recall and value caught by the alerts of a day."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            daily = np.asarray(curve["alerts"], np.float64) / max(1, days)
            for colour, name in zip(COLOURS, ("precision", "recall", "value_caught"), strict=False):
                axes.plot(daily, np.array(curve[name], np.float64), color=colour, label=name.replace("_", " "))
            if alerts_per_day:
                axes.axvline(alerts_per_day, color=INK, linewidth=0.8, linestyle=":", label="as decided")
            axes.axvline(budget, color=INK, linewidth=0.8, linestyle="--", label="daily budget")
            axes.set(xlabel="alerts a day", ylim=(0, 1.01), xscale="symlog", xlim=(0, None))
            axes.legend(loc="best", fontsize=7)

        return self.picture(draw)

    def costs(self, curve: Mapping[str, Sequence[float | None]], days: int, decided: tuple[float | None, float | None]) -> str:
        """Draw what a day costs by its alerts; `decided` are alerts and cost a day as they were."""

        def draw(axes: Any) -> None:  # noqa: ANN401  # as above
            daily = np.asarray(curve["alerts"], np.float64) / max(1, days)
            cost = np.asarray(curve["cost"], np.float64) / max(1, days)
            best = int(np.argmin(cost))
            axes.plot(daily, cost, color=COLOURS[0])
            axes.plot([daily[best]], [cost[best]], color=COLOURS[2], marker="v", label=f"least: {cost[best]:,.0f} a day")
            if None not in decided:
                axes.plot(*[[value] for value in decided], color=COLOURS[1], marker="o", label=f"as decided: {decided[1]:,.0f}")
            axes.axhline(cost[0], color=INK, linewidth=0.8, linestyle=":", label=f"no alert: {cost[0]:,.0f}")
            axes.set(xlabel="alerts a day", ylabel="cost a day", xscale="symlog", xlim=(0, None), ylim=(0, 1.6 * cost[0] or None))
            axes.legend(loc="best", fontsize=7)

        return self.picture(draw)
