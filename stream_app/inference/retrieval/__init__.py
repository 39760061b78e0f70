"""Search for candidate items: an exact index and an inverted-file (IVF) index over item vectors."""
