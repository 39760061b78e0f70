"""Work of operators: topics, doctor, stored positions, models of a registry, erasure of a person's state."""
