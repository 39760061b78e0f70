"""Aggregations over an entity's whole past: last values and histograms, without tiles."""
