"""Bytes to events and answers to bytes; names of topics; generated schemas."""
