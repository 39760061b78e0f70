"""A simulated shop: shoppers, sessions, orders and fraud rings with their ground truth, seeded and repeatable.

It yields records and does no I/O; the command `millrace simulate` sends them to Kafka or to a file.
"""
