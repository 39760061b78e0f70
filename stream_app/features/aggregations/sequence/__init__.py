"""Aggregations over a user's last interactions."""
