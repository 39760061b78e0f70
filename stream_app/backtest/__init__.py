"""Backtest: replay, labels and a report in the fraud team's money."""
