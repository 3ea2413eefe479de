"""What aiormq raises, in the words of the bus port.

aiormq has many ways to say that an answer will not come; for a caller they are all one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from aiormq.exceptions import DeliveryError, PublishError

from chassis.bus import BusUnavailable


class QueueMissing(BusUnavailable):
    """The queue that a message was to be moved to does not exist."""


@asynccontextmanager
async def broker_errors(doing: str) -> AsyncIterator[None]:
    """Translate what aiormq raises into BusUnavailable. Mistakes in the arguments pass through."""
    try:
        yield
    except (TypeError, ValueError, BusUnavailable):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        _unavailable(
            doing, "the connection was lost", error
        )  # aiormq cancels what waits for an answer
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
    except Exception as error:  # noqa: BLE001 - aiormq rejects what waits with a bare Exception when the socket closes
        _unavailable(doing, f"the connection was lost ({type(error).__name__}: {error})", error)


def _unavailable(doing: str, why: str, cause: BaseException) -> NoReturn:
    raise BusUnavailable(f"{doing} failed: {why}") from cause
