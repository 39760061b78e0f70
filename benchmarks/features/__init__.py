"""What `bench_features` and `bench_replay` measure, and what they compare with."""
