"""Event types and versions, the protobuf messages behind them, and the envelope.

Knows no bus and no store.
"""
