"""Replay on several processes: users are split over workers, shared entities are exchanged as partitions."""
