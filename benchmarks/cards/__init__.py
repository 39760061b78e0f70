"""Models and rules of the card backtest."""
