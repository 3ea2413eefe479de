"""A fault of the service's set-up: no event is at fault, and no further attempt can mend it.

The replica takes no further events, is not ready, and says once how to mend it. Knows no handler
and no broker.
"""

import structlog

from chassis.handling.pauses import Pauses
from chassis.retry import SetupFault

_log = structlog.get_logger(__name__)


class SetupPause:
    """Holds the pause from the first fault on. Settings never change while a process runs."""

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self.fault: SetupFault | None = None
        """The first fault, None if there was none."""

    def report(self, fault: SetupFault) -> None:
        """A handler met `fault`: pause for good. Says so the first time."""
        if self.fault is not None:
            return
        self.fault = fault
        _log.error(
            "the set-up of the service is wrong; the consumer pauses until a restart, and its "
            "events stay at the broker",
            fault=str(fault),
        )
        self._pauses.hold("setup")
