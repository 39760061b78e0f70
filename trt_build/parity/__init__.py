"""Compare an exported model with the checkpoint, and measure it."""
