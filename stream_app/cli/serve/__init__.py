"""Commands that run something: worker, demo, simulator, local services."""
