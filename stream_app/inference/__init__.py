"""Models at work: load an artefact, score a batch, find candidates. No torch."""
