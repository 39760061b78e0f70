"""Replay in journal order: repeat a live run in the order of its commits, bit for bit."""
