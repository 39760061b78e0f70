"""Local Kafka and Redis: real servers in `.services/` of a checkout, and embedded ones that end with their process.

The worker imports none of it; `worker --restart`, its supervisor, takes one function. `real.up` and `embedded.embedded_services`
both return the addresses as a `state.ServicesState`.
"""
