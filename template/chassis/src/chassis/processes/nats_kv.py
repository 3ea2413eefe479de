"""Processes in a NATS key-value bucket: the stream `KV_processes`, one message a process.

A write expects the sequence that was read, so it is refused after any other write. A record that is
not active expires by itself (`Nats-TTL`); active ones stay. Services share the bucket.
"""

import base64
import math
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from chassis.inbox import InboxUnavailable
from chassis.jetstream.connection import JetStream
from chassis.jetstream.errors import (
    ANOTHER_UNDER_WAY,
    NO_MESSAGE,
    NO_STREAM,
    WRONG_LAST_SEQUENCE,
    JetStreamError,
)
from chassis.jetstream.replies import Reply
from chassis.jetstream.streams import Streams
from chassis.jetstream.wire import encode_headers
from chassis.processes.store import (
    Address,
    Conflict,
    Record,
    Stored,
    Tally,
    encoded,
    readable,
    tally_of,
)

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_EXPIRES = "Nats-TTL"


class NatsKvProcesses:
    """The processes of `service`; `url`, `replicas` and `timeout` as for the inbox."""

    transactional = False

    def __init__(
        self,
        url: str,
        service: str,
        retention_seconds: float,
        *,
        bucket: str = "processes",
        replicas: int = 1,
        timeout: float = 5.0,
    ) -> None:
        self._stream = f"KV_{bucket}"
        self._all = f"$KV.{bucket}.>"
        # A name of a service may hold what a subject may not.
        token = blake2b(service.encode(), digest_size=8).hexdigest()
        self._subject = f"$KV.{bucket}.{token}."
        self._retention = max(1, math.ceil(retention_seconds))
        self._timeout = timeout
        self._link = JetStream(
            url,
            name=f"processes {service}",
            timeout=timeout,
            unavailable=InboxUnavailable,
            oldest=(2, 11),
            on_up=self._set_up,
        )
        self._streams = Streams(self._link, replicas)

    async def open(self) -> None:
        self._link.start()
        await self._link.wait_up(self._timeout)

    async def load(
        self, address: Address, within: "AsyncConnection[tuple[Any, ...]] | None" = None
    ) -> Stored | None:
        return self._stored(await self._get(last_by_subj=self._subject + address.id))

    async def save(
        self,
        record: Record,
        revision: int,
        within: "AsyncConnection[tuple[Any, ...]] | None" = None,
    ) -> None:
        id_ = record.address.id
        headers = {_EXPECTED: str(revision)}
        if record.status != "active":
            headers[_EXPIRES] = str(self._retention)
        try:
            await self._link.ask(self._subject + id_, encoded(record), encode_headers(headers))
        except JetStreamError as error:
            if error.code in {WRONG_LAST_SEQUENCE, ANOTHER_UNDER_WAY}:
                raise Conflict(id_) from None
            raise self._unusable(error) from error

    async def records(self) -> AsyncIterator[Stored]:
        after = 0
        while True:
            message = await self._get(next_by_subj=f"{self._subject}*", seq=after + 1)
            stored = self._stored(message)
            if stored is None:
                return
            yield stored
            after = stored.revision

    async def tally(self) -> Sequence[Tally]:
        return tally_of([record async for record in readable(self.records())])

    async def close(self) -> None:
        await self._link.close()

    async def _get(self, **which: str | int) -> Reply | None:
        """A message, from the stream's leader; None without one."""
        try:
            answer = await self._link.api(f"STREAM.MSG.GET.{self._stream}", **which)
        except JetStreamError as error:
            if error.code == NO_MESSAGE:
                return None
            raise self._unusable(error) from error
        message: Reply = answer["message"]
        return message

    def _stored(self, message: Reply | None) -> Stored | None:
        if message is None:
            return None
        id_ = str(message["subject"]).removeprefix(self._subject)
        return Stored(id_, base64.b64decode(message.get("data", "")), int(message["seq"]))

    async def _set_up(self) -> None:
        await self._streams.provide(
            {
                "name": self._stream,
                "subjects": [self._all],
                "max_msgs_per_subject": 1,
                "discard": "new",
                "allow_msg_ttl": True,
            },
            # A full bucket must refuse a process, not forget an older one.
            lambda _: {"allow_msg_ttl": True, "discard": "new"},
        )
        self._streams.warn_of_few_replicas()

    def _unusable(self, error: JetStreamError) -> InboxUnavailable:
        if error.code == NO_STREAM:
            self._link.suspect(f"the stream {self._stream} is gone")
        return InboxUnavailable(f"the bucket {self._stream} in NATS at {self._link.where}: {error}")
