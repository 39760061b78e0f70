"""Aggregations over an entity's current session."""
