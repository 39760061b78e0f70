"""What `bench_engine` measures: rows, engines, roofline."""
