"""Decisions from probabilities and rules."""
