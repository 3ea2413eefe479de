"""Proof by killing things: real services, real servers, seeded faults.

The ledger is outside of the system under test.
"""
