"""Bytes to events, answers to bytes, and the table of topics."""
