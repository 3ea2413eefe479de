"""Stands for a provider outside (mail, payments) that honours idempotency keys, as those worth their money do.

Every call is recorded, so that somebody outside the service can count what really happened.
"""

import os
import sqlite3


def call_provider(service: str, event_id: str, idempotency_key: str) -> None:
    """Have the effect of `event_id`; a call with a key that is known already has none."""
    with sqlite3.connect(os.environ["DEMO_PROVIDER"], timeout=30) as records:
        records.execute("INSERT INTO calls VALUES (?, ?, ?)", (service, event_id, idempotency_key))
