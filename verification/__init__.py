"""End-to-end checks on real services: answers, stored state and replays are compared with independent computations."""
