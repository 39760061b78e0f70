"""Checks of the source tree itself: its size, its names, its import cycles and the subjects of its commits."""
