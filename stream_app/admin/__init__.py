"""What operators run: topics, doctor, stored positions, models of a registry, erasure of a person's state."""
