"""Model registry, and model changes in a running worker: promotion, swap, shadow, traffic split."""
