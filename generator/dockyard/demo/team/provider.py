"""Stands for a provider outside, of mail or payments, that honours idempotency keys.

It records each call, so the demo can count outside of the services what really happened.
"""

import os
import sqlite3
import time


def call_provider(service: str, effect: str, idempotency_key: str) -> None:
    """Have `effect`. A call with a known key has no effect."""
    with sqlite3.connect(os.environ["DEMO_PROVIDER"], timeout=30) as records:
        call = (service, effect, idempotency_key, time.time())
        # A kill of the service takes nothing from the file: only a power cut would.
        records.execute("PRAGMA synchronous = OFF")
        records.execute("INSERT INTO calls VALUES (?, ?, ?, ?)", call)
