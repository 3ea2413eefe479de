"""Counts the events that the handler of a contender sees; prints a line of JSON after the last.

Each contender runs the same few instructions, so the code around them makes the difference.
"""

import json
import os
import sys
import time
from collections.abc import Callable


class Meter:
    """Times the events from the first to the last, then calls `when_done` to end the contender."""

    def __init__(self, when_done: Callable[[], None]) -> None:
        self._expected = int(os.environ["BENCH_EVENTS"])
        self._when_done = when_done
        self._seen = 0

    def hit(self) -> None:
        """One event was handled."""
        if self._seen == 0:
            self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._seen += 1
        if self._seen == self._expected:
            wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
            sys.stdout.write(json.dumps({"seconds": wall, "cpu_seconds": cpu}) + "\n")
            sys.stdout.flush()
            self._when_done()
