"""Evaluate a model: metrics by task, baselines, nearest neighbours, calibration, significance."""
