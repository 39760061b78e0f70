"""Replay on several processes: users are split over workers, which exchange shared entities as partitions."""
