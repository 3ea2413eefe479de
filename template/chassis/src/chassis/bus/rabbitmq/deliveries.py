"""The deliveries of one channel, put together from their frames. Knows frames; knows no event."""

from collections.abc import Callable, Mapping
from struct import Struct

from pamqp.commands import Basic
from pamqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_METHOD

from chassis.bus.rabbitmq.headers import read_headers
from chassis.bus.rabbitmq.messages import Received

_DELIVER = b"\x00\x3c\x00\x3c"
_LONG_LONG = Struct(">Q")
_SIZE_AT = 4

Take = Callable[[int, Received], None]
"""Takes a delivery and its tag. Must not raise."""


class Deliveries:
    """A watcher of a wire. A delivery that is cut short by another method is forgotten."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._names: tuple[int, str, str] | None = None
        self._header: tuple[Mapping[str, object], bytes | Basic.Properties, str] | None = None
        self._parts: list[bytes] = []
        self._missing = 0

    def watch(self, kind: int, payload: bytes) -> bool:
        if kind == FRAME_METHOD:
            self._names, self._header, self._parts = None, None, []
            if not payload.startswith(_DELIVER):
                return False
            self._names = _names(payload)
        elif kind == FRAME_HEADER and self._names is not None:
            self._header = read_headers(payload)
            (self._missing,) = _LONG_LONG.unpack_from(payload, _SIZE_AT)
            if not self._missing:
                self._end(b"")
        elif kind == FRAME_BODY and self._header is not None:
            self._missing -= len(payload)
            if self._missing > 0:
                self._parts.append(payload)
            elif self._parts:
                self._end(b"".join((*self._parts, payload)))
            else:
                self._end(payload)
        else:
            return False
        return True

    def _end(self, body: bytes) -> None:
        names, header = self._names, self._header
        self._names, self._header, self._parts = None, None, []
        if names is not None and header is not None:
            tag, exchange, key = names
            headers, content, unreadable = header
            self._take(tag, Received(headers, body, content, exchange, key, unreadable))


def _names(deliver: bytes) -> tuple[int, str, str]:
    """Tag, exchange and routing key of a delivery."""
    at = 5 + deliver[4]  # past the consumer's tag
    (tag,) = _LONG_LONG.unpack_from(deliver, at)
    at += 9  # and past the flag of redelivery
    exchange_end = at + 1 + deliver[at]
    key_end = exchange_end + 1 + deliver[exchange_end]
    return tag, _text(deliver[at + 1 : exchange_end]), _text(deliver[exchange_end + 1 : key_end])


def _text(raw: bytes) -> str:
    """A name; `?` for each byte that is not ASCII if it is not UTF-8. See frames."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("ascii", "replace").replace("\ufffd", "?")
