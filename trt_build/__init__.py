"""From a checkpoint to what a worker loads, each step verified against its source."""
