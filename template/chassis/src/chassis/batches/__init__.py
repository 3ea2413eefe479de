"""Handlers that take many events at a time. Each event keeps a claim and an outcome of its own.

A service without such a handler imports nothing of this room but names for the type checker.
"""
