"""One process of a service: its parts put together, its life, its probes.

Knows no handler and no broker.
"""
