"""What a backtest compares: models, rules, gradient-boosted trees, single features, score files."""
