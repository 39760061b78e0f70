"""Commands over event logs: import, validate, sort, replay, diff, backtest, train."""
