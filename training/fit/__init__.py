"""Fit a network: training loop, losses, balancing of tasks, distributed training, resumption."""
