"""The report of a backtest: tables, charts, HTML and JSON."""
