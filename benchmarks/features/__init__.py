"""The code that `bench_features` and `bench_replay` measure, and the tools they compare with."""
