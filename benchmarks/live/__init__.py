"""Load, latency and the rival application of the live benchmarks."""
