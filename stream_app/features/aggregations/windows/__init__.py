"""Aggregations over the tiles of a window."""
