"""One event on its way: from a delivery through claim and handler to its outcome.

Knows the ports, never a broker.
"""
