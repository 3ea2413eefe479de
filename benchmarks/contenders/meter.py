"""Counts events as the handler of a contender sees them, and prints one line of JSON after the last one.

The same few instructions in every contender, so that what differs is what is around them.
"""

import json
import os
import sys
import time
from collections.abc import Callable


class Meter:
    """`when_done` ends the contender. Wall-clock and CPU time run from the first event to the last."""

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
