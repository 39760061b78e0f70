"""From probabilities and rules to decisions."""
