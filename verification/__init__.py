"""End-to-end checks on real services: what was answered, stored and replayed is compared with independent computations."""
