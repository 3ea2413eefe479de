"""The inbox in a NATS key-value bucket: the stream `KV_<bucket>`, one message a key.

claim     publish, expecting no message of the key; the message expires with the lease (`Nats-TTL`).
          Its sequence is the fence: sequences only grow, so a take-over has a higher fence.
extend    publish again, expecting the fence; the new sequence is the new fence. The message keeps
          the expected fence, so an extension whose answer is lost can be recognised.
complete  publish, expecting the fence, without the lease's expiry; the bucket's maximum age is the
          retention.
release   delete the message whose sequence is the fence; the key then has no message. A bucket of
          the NATS tools denies deletes: there, a message that says "free" takes its place, and
          expires. The next claim expects that message's sequence.

Only the server's clock counts. A refused claim is looked up at the stream's leader afterwards,
never before: reading first and writing then would let two replicas through.

A cluster refuses a record while an earlier one of the same key is under way to a majority. After
the loss of a leader, that can go on until the next one. It is nothing but a busy key: the store
serves all others. Knows no bus.
"""

import asyncio
import base64
import math
from contextlib import suppress
from datetime import datetime

from chassis.inbox import InboxUnavailable, Lease, LeaseLost, Refusal, Refused, probe_key
from chassis.jetstream.connection import JetStream
from chassis.jetstream.errors import (
    ANOTHER_UNDER_WAY,
    NO_MESSAGE,
    NO_STREAM,
    PURGE_DENIED,
    WRONG_LAST_SEQUENCE,
    JetStreamError,
)
from chassis.jetstream.replies import Reply
from chassis.jetstream.streams import Config, Streams, longest
from chassis.jetstream.wire import decode_headers, encode_headers

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_EXPIRES = "Nats-TTL"
_CLAIMED = b"c:"
_DONE = b"d:"
_FREE = b"f:"
_FREE_SECONDS = 1
_LEAST_WAIT_SECONDS = 0.1
_CLAIM_TRIES = 3  # a record can expire, and another claim come, between two of them
_UNDER_WAY_SECONDS = 1.0
_ASK_AGAIN_SECONDS = (0.05, 0.2, 0.5)


class _UnderWay(Exception):
    """Another record of the key is not stored yet, so the server does not say what is there."""


class NatsKvInbox:
    """`url` as for the bus; nats-server 2.11 or newer. Leases are rounded up to whole seconds.

    Services may share a bucket. Its maximum age is the longest of their retentions; a service with
    a shorter one says so in each record. `replicas` is the least number of copies of the bucket;
    further copies stay. `timeout` (seconds) bounds each answer.
    """

    def __init__(
        self,
        url: str,
        *,
        bucket: str = "inbox",
        lease_seconds: float,
        retention_seconds: float,
        replicas: int = 1,
        timeout: float = 5.0,
    ) -> None:
        self._stream = f"KV_{bucket}"
        self._subject = f"$KV.{bucket}."
        self._lease = max(1, math.ceil(lease_seconds))
        self._retention = max(1, math.ceil(retention_seconds))
        self._done_headers = _expecting(None)
        self._deletes = True
        self._timeout = timeout
        self._expecting = _expecting(self._lease)
        self._claim_headers = self._expecting % 0
        self._link = JetStream(
            url,
            name=f"inbox {bucket}",
            timeout=timeout,
            unavailable=InboxUnavailable,
            oldest=(2, 11),
            on_up=self._set_up,
        )
        self._streams = Streams(self._link, replicas)

    async def open(self) -> None:
        """Connect and create the bucket. Raises InboxUnavailable, but goes on trying."""
        self._link.start()
        await self._link.wait_up(self._timeout)

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        body = _CLAIMED + digest.encode()
        headers = self._claim_headers
        for _ in range(_CLAIM_TRIES):
            try:
                return Lease(key, digest, await self._put(key, body, headers))
            except LeaseLost:
                message = await self._last(key)
            except _UnderWay:
                return Refused(Refusal.BUSY, _UNDER_WAY_SECONDS)
            if message is None:  # the record expired in between
                headers = self._claim_headers
                continue
            found = base64.b64decode(message.get("data", ""))
            if found != _FREE:
                return self._refusal(message, found, digest)
            headers = self._expecting % int(message["seq"])
        return Refused(Refusal.BUSY, float(self._lease))

    async def extend(self, lease: Lease) -> Lease:
        body, headers = _CLAIMED + lease.digest.encode(), self._expecting % lease.fence
        try:
            return Lease(lease.key, lease.digest, await self._follow(lease.key, body, headers))
        except LeaseLost:
            return await self.extend(await self._extension_of(lease))

    async def complete(self, lease: Lease) -> None:
        try:
            await self._follow(
                lease.key,
                _DONE + lease.digest.encode(),
                self._done_headers % lease.fence,
            )
        except LeaseLost:
            await self.complete(await self._extension_of(lease))

    async def release(self, lease: Lease) -> None:
        if not self._deletes:
            with suppress(LeaseLost):
                await self._follow(lease.key, _FREE, _expecting(_FREE_SECONDS) % lease.fence)
            return
        try:
            await self._link.api(
                f"STREAM.MSG.DELETE.{self._stream}", seq=lease.fence, no_erase=True
            )
        except JetStreamError as error:
            if error.code not in _GONE:
                raise self._unusable(error) from error

    async def ping(self) -> None:
        key = probe_key()
        try:
            await self._link.read_clock(self._stream)
            await self._put(key, _CLAIMED + b"0" * 16, self._claim_headers)
            # Not as `release` does: in a full bucket its message would take the room of a claim.
            await self._link.api(f"STREAM.PURGE.{self._stream}", filter=self._subject + key)
        except JetStreamError as error:
            if error.code != PURGE_DENIED:  # then it expires
                raise self._unusable(error) from error

    async def close(self) -> None:
        await self._link.close()

    async def _follow(self, key: str, body: bytes, headers: bytes) -> int:
        """Put a record after one of this replica, which can still be under way."""
        for seconds in _ASK_AGAIN_SECONDS:
            try:
                return await self._put(key, body, headers)
            except _UnderWay:
                await asyncio.sleep(seconds)
        try:
            return await self._put(key, body, headers)
        except _UnderWay:
            raise InboxUnavailable(
                f"the bucket {self._stream} in NATS at {self._link.where} has another record of "
                f"the key {key} under way"
            ) from None

    async def _put(self, key: str, body: bytes, headers: bytes) -> int:
        """The sequence of the stored message. Raises LeaseLost if the key is not as expected."""
        try:
            return int((await self._link.ask(self._subject + key, body, headers))["seq"])
        except JetStreamError as error:
            if error.code == WRONG_LAST_SEQUENCE:
                raise LeaseLost(key) from None
            if error.code == ANOTHER_UNDER_WAY:
                raise _UnderWay from None
            raise self._unusable(error, "it refuses writes: ") from error

    async def _last(self, key: str) -> Reply | None:
        """The key's message, from the stream's leader; None without one."""
        try:
            answer = await self._link.api(
                f"STREAM.MSG.GET.{self._stream}", last_by_subj=self._subject + key
            )
        except JetStreamError as error:
            if error.code == NO_MESSAGE:
                return None
            raise self._unusable(error) from error
        message: Reply = answer["message"]
        return message

    async def _extension_of(self, lease: Lease) -> Lease:
        """The lease after an extension whose answer was lost. Raises LeaseLost without one."""
        message = await self._last(lease.key)
        if message is not None and base64.b64decode(message.get("data", "")).startswith(_CLAIMED):
            followed = decode_headers(base64.b64decode(message.get("hdrs", ""))).get(_EXPECTED)
            if followed == str(lease.fence):
                return Lease(lease.key, lease.digest, int(message["seq"]))
        raise LeaseLost(lease.key)

    def _refusal(self, message: Reply, found: bytes, digest: str) -> Refused:
        """Why a claim is refused by the key's `message` with the body `found`."""
        if found[2:] != digest.encode():
            return Refused(Refusal.MISMATCH)
        if found.startswith(_DONE):
            return Refused(Refusal.DUPLICATE)
        rest = (
            datetime.fromisoformat(message["time"]).timestamp()
            + self._lease
            - self._link.server_time()
        )
        return Refused(Refusal.BUSY, min(max(rest, _LEAST_WAIT_SECONDS), float(self._lease)))

    async def _set_up(self) -> None:
        config = await self._streams.provide(
            {
                "name": self._stream,
                "subjects": [self._subject + ">"],
                "max_msgs_per_subject": 1,
                "max_age": self._retention * 10**9,
                "discard": "new",
                "allow_msg_ttl": True,
            },
            self._grown,
        )
        self._streams.warn_of_few_replicas()
        self._deletes = not config.get("deny_delete")
        kept = config["max_age"] // 10**9
        self._done_headers = _expecting(None if kept == self._retention else self._retention)

    def _grown(self, config: Config) -> Config:
        """What a bucket lacks that somebody made. Raises InboxUnavailable if it can forget."""
        if config.get("max_msgs_per_subject") != 1:
            raise InboxUnavailable(
                f"the stream {self._stream} was made by something else (it keeps a history): "
                "choose another bucket, or delete this one"
            )
        wanted = self._retention * 10**9
        return {
            "allow_msg_ttl": True,
            "max_age": longest(config.get("max_age", 0), wanted),
            "discard": "new",  # a full bucket must refuse a claim, not forget an older one
        }

    def _unusable(self, error: JetStreamError, what: str = "") -> InboxUnavailable:
        if error.code == NO_STREAM:
            self._link.suspect(f"the stream {self._stream} is gone")
        return InboxUnavailable(
            f"the bucket {self._stream} in NATS at {self._link.where}: {what}{error}"
        )


_GONE = frozenset({NO_MESSAGE, 10043, 10057})
"""Codes of a delete without a message: no message found, invalid sequence, delete failed."""


def _expecting(expires: int | None) -> bytes:
    """Headers of a write that expires after `expires` seconds.

    `%` puts in the sequence that the write expects as the key's last.
    """
    headers = {_EXPECTED: "%d"}
    return encode_headers(headers if expires is None else headers | {_EXPIRES: str(expires)})
