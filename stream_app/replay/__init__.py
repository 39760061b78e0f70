"""Replay: a log or a recorded live run through the way of one event, with a virtual clock and a state of its own."""
