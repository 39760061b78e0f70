"""The edge to Kafka: fetch chunks of records, form batches, call a handler, acknowledge.

Only this package imports Faust and aiokafka. `ports.py` holds the protocols of handler and hooks: plain values, no client types.
"""
