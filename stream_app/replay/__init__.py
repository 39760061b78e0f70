"""Replay: process a log or a recorded live run as live, with a virtual clock and separate state."""
