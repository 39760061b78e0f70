"""Rows, engines and roofline of `bench_engine`."""
