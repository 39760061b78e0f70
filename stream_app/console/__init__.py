"""Tools for the person at the terminal: topics, tail, doctor. Plain values in, no settings."""
