"""Reports: charts, HTML pages, JSON values and the provenance of a figure. Used by backtests, training and benchmarks."""
