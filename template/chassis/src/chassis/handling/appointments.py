"""How long an event waits in hand for its turn, and when it comes back if that is too long.

Knows times; knows no event and no broker.
"""

HOLD_SECONDS = 600.0
"""Seconds that an event is kept in hand before it is handled.

RabbitMQ ends a channel after 30 minutes without an acknowledgement.
"""

SOON_SECONDS = 1.0
"""A caller whose turn comes within this time waits for it here, however many others wait."""

LONGEST_SECONDS = 300.0
"""No appointment is later than this."""


class NoTurn(Exception):
    """The turn will not come in this replica: the event is to be handed back."""


class Appointments:
    """Times to come back for callers that find no room to wait."""

    def __init__(self) -> None:
        self._booked = 0.0

    def make(self, now: float, free: float, between: float) -> float:
        """Seconds until the next appointment: after `free`, the time of the next free turn.

        Each turn of `between` seconds gets two: an idle turn costs more than a second try.
        """
        self._booked = min(max(self._booked, free) + between / 2, now + LONGEST_SECONDS)
        return max(SOON_SECONDS, self._booked - now)
