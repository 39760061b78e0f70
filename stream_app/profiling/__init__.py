"""Profile a log or the stored features: validate, suggest features, estimate state size, explain one user's features."""
