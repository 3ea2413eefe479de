"""Publishes on one channel, many in flight, each until the broker has confirmed it.

A publish is one write of its frames; a confirm settles one number or all up to it. Knows frames and
numbers; knows no event.
"""

import asyncio
from functools import lru_cache
from struct import Struct
from typing import NamedTuple, cast

from aiormq.channel import Channel
from pamqp.commands import Basic
from pamqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_METHOD

from chassis.bus import BusUnavailable
from chassis.bus.rabbitmq.errors import REFUSED, SILENT, QueueMissing, lost, publishing
from chassis.bus.rabbitmq.frames import content_header, unmarshal
from chassis.bus.rabbitmq.transport import FRAME, OVERHEAD, Wire, frame, short_string

CONFIRM_SECONDS = 30.0

_PUBLISH, _RETURN = b"\x00\x3c\x00\x28", b"\x00\x3c\x00\x32"
_ACK, _NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"
_CLOSE = b"\x00\x14\x00\x28"
_BASIC = 60
_TAG = Struct(">QB")
_CONTENT = Struct(">HHQ")


class _Publish(NamedTuple):
    """A publish without an answer. `returns_as` names a mandatory one in a return."""

    key: str
    confirmed: "asyncio.Future[None]"
    deadline: float
    returns_as: tuple[str, str, str | None] | None


class Confirms:
    """Publishes on `channel`, which must be in confirm mode and have no other publisher."""

    def __init__(self, wire: Wire, channel: Channel, frame_max: int) -> None:
        self._wire = wire
        self._channel = channel
        self._largest_part = frame_max - OVERHEAD
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._first_open = 1
        self._open: dict[int, _Publish] = {}
        self._returned: set[int] = set()
        self._returning: Basic.Return | None = None
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        wire.watch(channel.number, self._take)
        channel.closing.add_done_callback(self._lost)

    async def publish(
        self,
        exchange: str,
        key: str,
        properties: bytes,
        body: bytes,
        *,
        message_id: str | None = None,
        mandatory: bool = False,
    ) -> None:
        """Publish; return when the broker has stored the message.

        `properties` are encoded, as Basic.Properties.marshal does. Raises BusUnavailable if it is
        not certain that the message is stored, QueueMissing if it is `mandatory` and has no queue.
        """
        if self._closed or self._channel.is_closed:
            raise lost(publishing(key), self._channel.closing)
        frames = self._frames(exchange, key, properties, body, mandatory=mandatory)
        self._number += 1
        confirmed = self._loop.create_future()
        deadline = self._loop.time() + CONFIRM_SECONDS
        self._open[self._number] = _Publish(
            key, confirmed, deadline, (exchange, key, message_id) if mandatory else None
        )
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._give_up)
        self._wire.send(frames)
        await confirmed

    async def settled(self) -> None:
        """Return when each publish in flight has its answer."""
        if waiting := [publish.confirmed for publish in self._open.values()]:
            await asyncio.wait(waiting)

    def _frames(
        self, exchange: str, key: str, properties: bytes, body: bytes, *, mandatory: bool
    ) -> bytes:
        channel, size = self._channel.number, len(body)
        content = _CONTENT.pack(_BASIC, 0, size) + properties
        parts = [
            _method(channel, exchange, key, mandatory),
            FRAME.pack(FRAME_HEADER, channel, len(content)),
            content,
            b"\xce",
        ]
        parts += (
            frame(FRAME_BODY, channel, body[at : at + self._largest_part])
            for at in range(0, size, self._largest_part)
        )
        return b"".join(parts)

    def _take(self, kind: int, payload: bytes) -> bool:
        if kind != FRAME_METHOD:
            return self._returning is not None and self._take_returned(kind, payload)
        self._returning = None
        method = payload[:4]
        if method in (_ACK, _NACK):
            number, multiple = _TAG.unpack_from(payload, 4)
            self._settle(number, multiple=multiple & 1 == 1, stored=method == _ACK)
        elif method == _RETURN:
            returned = unmarshal(frame(kind, self._channel.number, payload))[2]
            self._returning = cast("Basic.Return", returned)
        else:
            self._closed = self._closed or method == _CLOSE
            return False
        return True

    def _take_returned(self, kind: int, payload: bytes) -> bool:
        """A return has the message but no number: each publish that it may mean counts as returned.

        A publish that counts so by mistake is sent again, which costs a duplicate. The other
        mistake would lose a message.
        """
        if kind == FRAME_HEADER and self._returning is not None:
            returned, header = self._returning, content_header(payload)
            name = (returned.exchange, returned.routing_key, header.properties.message_id)
            self._returned |= {
                number for number, publish in self._open.items() if publish.returns_as == name
            }
        return True

    def _settle(self, number: int, *, multiple: bool, stored: bool) -> None:
        if not multiple:
            self._answer(number, stored=stored)
            return
        last = number or self._number
        for each in range(self._first_open, last + 1):
            self._answer(each, stored=stored)
        self._first_open = last + 1

    def _answer(self, number: int, *, stored: bool) -> None:
        publish = self._open.pop(number, None)
        returned = number in self._returned
        self._returned.discard(number)
        if publish is None or publish.confirmed.done():
            return
        if not stored:
            publish.confirmed.set_exception(BusUnavailable(f"{publishing(publish.key)} {REFUSED}"))
        elif returned:
            publish.confirmed.set_exception(QueueMissing.of(publish.key))
        else:
            publish.confirmed.set_result(None)

    def _give_up(self) -> None:
        """The oldest publish is out of time, or has its answer."""
        now = self._loop.time()
        self._timer = None
        for number, publish in list(self._open.items()):
            if publish.deadline > now:
                self._timer = self._loop.call_at(publish.deadline, self._give_up)
                return
            del self._open[number]
            if not publish.confirmed.done():
                publish.confirmed.set_exception(
                    BusUnavailable(f"{publishing(publish.key)} {SILENT}")
                )

    def _lost(self, closing: "asyncio.Future[object]") -> None:
        self._closed = True
        self._wire.forget(self._channel.number, self._take)
        if self._timer is not None:
            self._timer.cancel()
        for publish in self._open.values():
            if not publish.confirmed.done():
                publish.confirmed.set_exception(lost(publishing(publish.key), closing))
        self._open.clear()


@lru_cache(maxsize=1024)
def _method(channel: int, exchange: str, key: str, mandatory: bool) -> bytes:
    """The first frame of a publish. Raises ValueError if a name is too long for AMQP."""
    names = b"".join(short_string(name) for name in (exchange, key))
    return frame(FRAME_METHOD, channel, b"%b\0\0%b%c" % (_PUBLISH, names, mandatory))
