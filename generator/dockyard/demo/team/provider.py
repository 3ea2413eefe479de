"""Stands for a provider outside, of mail or payments, that honours idempotency keys.

It records each call, so the demo can count outside of the services what really happened.
"""

import os
import sqlite3


def call_provider(service: str, event_id: str, idempotency_key: str) -> None:
    """Have the effect of `event_id`. A call with a known key has no effect."""
    with sqlite3.connect(os.environ["DEMO_PROVIDER"], timeout=30) as records:
        records.execute("INSERT INTO calls VALUES (?, ?, ?)", (service, event_id, idempotency_key))
