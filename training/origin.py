"""Where a figure comes from: as backtests say it."""

from stream_app.backtest.origin import commit, machine, origin

__all__ = ["commit", "machine", "origin"]
