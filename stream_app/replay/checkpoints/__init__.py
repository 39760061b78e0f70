"""Checkpoints of a replay and state files: resume after a kill, start from a snapshot."""
