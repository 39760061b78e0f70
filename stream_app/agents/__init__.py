"""Faust at the edge: chunks of records in, batches to a handler, acknowledgements out.

Nothing else in the worker knows Faust or aiokafka. The handler and the hooks are ports (`ports.py`): plain values, no
client types.
"""
