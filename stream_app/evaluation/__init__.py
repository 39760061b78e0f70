"""Metrics of predictions, without torch: ranking metrics, bootstrap intervals, curves, delayed labels."""
