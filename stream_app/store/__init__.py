"""State, position and outbox of each partition group: the port and its adapters."""
