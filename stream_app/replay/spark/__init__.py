"""Replay on Apache Spark, for logs larger than one machine."""
