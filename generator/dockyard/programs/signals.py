"""Signals that end a process, held back while it tidies up. Knows the operating system alone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDINGS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Signals by which a person or the system ends a process."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that end a process wait until this is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
