"""The errors of aiormq, in the words of the bus port.

aiormq has many errors for an answer that will not come; a caller sees one.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiormq.exceptions import ChannelPreconditionFailed

from chassis.bus import BusUnavailable, Unpublishable

_TOO_LARGE = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")


REFUSED = "failed: RabbitMQ refused the message, a queue that takes it is full or has no leader"
SILENT = "failed: RabbitMQ did not answer in time; is a queue without a leader?"


class QueueMissing(BusUnavailable):
    """The target queue of a move does not exist."""

    @classmethod
    def of(cls, queue: str) -> "QueueMissing":
        return cls(f"{publishing(queue)} failed: there is no such queue")


class BodyTooLarge(Unpublishable):
    """The broker takes no message of this size."""

    def __init__(self, key: str, size: int, limit: int) -> None:
        super().__init__(
            f"a message of {size} bytes to {key} is larger than the broker takes: "
            f"{limit} (max_message_size)"
        )
        self.limit = limit


def publishing(key: str) -> str:
    """What was done, for the sentence of an error."""
    return f"publishing to {key}"


def lost(doing: str, closing: "asyncio.Future[object]") -> BusUnavailable:
    """The error of a caller whose channel closed; `closing` is the channel's."""
    why = closing.exception() if closing.done() and not closing.cancelled() else None
    error = BusUnavailable(
        f"{doing} failed: the connection was lost"
        + (f" ({type(why).__name__}: {why})" if why else "")
    )
    error.__cause__ = why
    return error


def largest_body(closing: "asyncio.Future[object]") -> int | None:
    """The broker's limit in bytes if it closed a channel over a larger message, otherwise None."""
    if not closing.done() or closing.cancelled():
        return None
    refusal = closing.exception()
    told = (
        _TOO_LARGE.search(str(refusal)) if isinstance(refusal, ChannelPreconditionFailed) else None
    )
    return int(told[1]) if told else None


@asynccontextmanager
async def broker_errors(doing: str) -> AsyncIterator[None]:
    """Translate errors of aiormq into BusUnavailable. Mistakes in the arguments pass through."""
    try:
        yield
    except (TypeError, ValueError, BusUnavailable):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # aiormq cancels every caller that waits for an answer.
        raise BusUnavailable(f"{doing} failed: the connection was lost") from error
    except TimeoutError as error:
        raise BusUnavailable(f"{doing} {SILENT}") from error
    except Exception as error:  # what aiormq raises in a caller when the socket closes
        why = f"the connection was lost ({type(error).__name__}: {error})"
        raise BusUnavailable(f"{doing} failed: {why}") from error
