"""Local Kafka and Redis: real ones kept in `.services/` of a checkout, and embedded ones that end with their process.

Nothing here is part of the worker: it only needs addresses, which `real.up` and `embedded.embedded_services` both hand
out as one `state.ServicesState`.
"""
