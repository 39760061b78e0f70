"""Start workers on real services, read offsets and output topics, print one line of JSON. Used by benchmarks too."""
