"""The errors of aiormq, in the words of the bus port.

aiormq has many errors for an answer that will not come; a caller sees one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from aiormq.exceptions import DeliveryError, PublishError

from chassis.bus import BusUnavailable


class QueueMissing(BusUnavailable):
    """The target queue of a move does not exist."""


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
        _unavailable(doing, "the connection was lost", error)
    except PublishError as error:
        raise QueueMissing(f"{doing} failed: there is no such queue") from error
    except DeliveryError as error:
        _unavailable(
            doing,
            "RabbitMQ refused the message, a queue that takes it is full or has no leader",
            error,
        )
    except TimeoutError as error:
        _unavailable(doing, "RabbitMQ did not answer in time; is a queue without a leader?", error)
    except Exception as error:  # noqa: BLE001 - what aiormq raises in a caller when the socket closes
        _unavailable(doing, f"the connection was lost ({type(error).__name__}: {error})", error)


def _unavailable(doing: str, why: str, cause: BaseException) -> NoReturn:
    raise BusUnavailable(f"{doing} failed: {why}") from cause
