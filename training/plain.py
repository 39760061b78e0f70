"""Plain values, such as JSON holds: as backtests write them."""

from stream_app.backtest.plain import plain

__all__ = ["plain"]
