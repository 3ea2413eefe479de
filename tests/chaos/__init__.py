"""Proof by killing things: real services and real servers, seeded faults, a ledger outside of the system under test."""
