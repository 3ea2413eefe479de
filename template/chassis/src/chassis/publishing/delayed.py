"""Publishes an event that has waited, once it is due. Knows no broker and no store."""

from collections.abc import Callable
from datetime import datetime

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from chassis.context import Context
from chassis.contracts.delayed import carried
from chassis.contracts.event_types import event_type
from chassis.inbox import own_key
from chassis.retry import Doomed, not_before

DELAYED = "delayed-events"
"""What the inbox and the metrics call the handler of events that wait: no function has the name."""


def claim_of(service: str, id_: str) -> tuple[str, str]:
    """Key and digest of the claim on the delayed event with this id."""
    return own_key(service, DELAYED, event_type(Any), id_)


class Delayed:
    """`now` is the clock."""

    def __init__(self, service: str, now: Callable[[], datetime]) -> None:
        self._service = service
        self._now = now

    async def publish(self, body: Message, context: Context) -> None:
        """Publish what waits in `body`. Raises NotYet, and Doomed if it is no event that waits."""
        due = context.time
        try:
            if due is None:
                raise ValueError("it has no time")
            event = carried(body, self._service, due)
        except ValueError as error:
            raise Doomed("undecodable", f"not an event that waits: {error}") from error
        not_before(due, self._now())
        context.add([event])
