"""Read any event log: mapped files, recorded topics, event tables. Replays, backtests and training read through this package."""
