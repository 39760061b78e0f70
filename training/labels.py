"""What each event of a session turned out to mean: as backtests take it."""

from stream_app.backtest.session_labels import BUY_WITHIN_MS, UNKNOWN, SessionLabel, Step, next_kind, session_labels, step_of

__all__ = ["BUY_WITHIN_MS", "UNKNOWN", "SessionLabel", "Step", "next_kind", "session_labels", "step_of"]
