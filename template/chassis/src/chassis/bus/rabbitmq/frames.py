"""A connection that reads every frame of the broker, whatever a publisher wrote into a message.

aiormq ends the connection at a string that is not UTF-8, or a time beyond the year 9999. The broker
delivers the message again on the next connection. Here such parts are replaced, and the message's
header says which: a `MendedHeader`. Knows the layout of frames; knows no event.
"""

import struct
from asyncio import IncompleteReadError
from collections.abc import Iterator
from typing import cast

import pamqp.frame
from aiormq.connection import Connection, FrameReceiver
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import decode
from pamqp.commands import Basic
from pamqp.common import FieldTable, FieldValue
from pamqp.constants import FRAME_HEADER, FRAME_METHOD
from pamqp.exceptions import PAMQPException
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader

_START = 7  # bytes of a frame before its payload: kind, channel, size
_UNREADABLE = (PAMQPException, ValueError, ArithmeticError, OSError, RecursionError, struct.error)

_FIXED = {**dict.fromkeys(b"tbB", 1), **dict.fromkeys(b"su", 2), **dict.fromkeys(b"Iif", 4)}
_FIXED |= {**dict.fromkeys(b"lLdT", 8), ord("D"): 5, ord("V"): 0, 0: 0}
_COUNTED = b"SxAF"

_NAMES_BEGIN = {Basic.GetOk.index: 9, Basic.Return.index: 2}
"""How many bytes of arguments come before the names. Deliveries are read by `deliveries`."""


class MendedHeader(ContentHeader):
    """The header of a message whose properties are not all readable. `unreadable` names them."""

    unreadable: str


def content_header(payload: bytes) -> ContentHeader:
    """The header of a message in the payload of its frame. Raises InvalidFrameError."""
    frame = struct.pack(">BHI", FRAME_HEADER, 1, len(payload)) + payload + b"\xce"
    return cast("ContentHeader", unmarshal(frame)[2])


class TolerantConnection(Connection):
    """A connection that reads every frame."""

    async def _Connection__reader(self, frames: FrameReceiver) -> None:  # noqa: N802 - aiormq's name for it
        """aiormq's loop over the frames, with our way to read them."""
        await super()._Connection__reader(_Frames(frames.reader))  # type: ignore[misc] # a mangled name


class _Frames(FrameReceiver):
    async def get_frame(self) -> tuple[int, int, FrameTypes]:
        if self.reader.at_eof():
            raise StopAsyncIteration
        try:
            start = await self.reader.readexactly(_START)
            size = int.from_bytes(start[3:], "big")
            raw = start + await self.reader.readexactly(size + 1)
        except (IncompleteReadError, OSError) as error:
            raise AMQPConnectionError(f"the connection was closed: {error!r}") from error
        return unmarshal(raw)


def unmarshal(raw: bytes) -> tuple[int, int, FrameTypes]:
    """Size, channel and content of the frame `raw`. Raises InvalidFrameError."""
    try:
        return pamqp.frame.unmarshal(raw)
    except _UNREADABLE as error:
        try:
            return _mended(raw)
        except (*_UNREADABLE, LookupError):
            raise InvalidFrameError(str(error)) from error


def _mended(raw: bytes) -> tuple[int, int, FrameTypes]:
    kind, channel, _ = pamqp.frame.frame_parts(raw)
    if kind == FRAME_HEADER:
        return len(raw), channel, _header(raw[_START:-1])
    return pamqp.frame.unmarshal(_with_readable_names(raw) if kind == FRAME_METHOD else raw)


def _with_readable_names(raw: bytes) -> bytes:
    """The frame of a method with `?` for each byte of its exchange and key that is not ASCII."""
    at = _START + 4
    index = int.from_bytes(raw[_START:at], "big")
    frame = bytearray(raw)
    at += _NAMES_BEGIN[index]
    for _ in range(3 if index == Basic.Return.index else 2):
        end = at + 1 + frame[at]
        frame[at + 1 : end] = bytes(
            byte if byte < 0x80 else ord("?") for byte in frame[at + 1 : end]
        )
        at = end
    return bytes(frame)


def _header(payload: bytes) -> MendedHeader:
    _, weight, body_size, flags = struct.unpack_from(">HHQH", payload)
    properties = Basic.Properties()
    unreadable: list[str] = []
    rest = payload[14:]
    for name in Basic.Properties.__slots__:
        if not flags & Basic.Properties.flags[name]:
            continue
        kind = Basic.Properties.amqp_type(name)
        size = {"octet": 1, "timestamp": 8}.get(kind) or _counted(
            rest, 1 if kind == "shortstr" else 4
        )
        part, rest = rest[:size], rest[size:]
        value: FieldValue
        try:
            value = decode.by_type(part, kind)[1]
        except _UNREADABLE:
            if kind == "table":
                value = _table(part[4:], unreadable)
            else:
                value = _text(part[1:]) if kind == "shortstr" else None
                unreadable.append(name)
        setattr(properties, name, value)
    mended = MendedHeader(weight, body_size, properties)
    mended.unreadable = ", ".join(unreadable)[:500]
    return mended


def _table(raw: bytes, unreadable: list[str]) -> FieldTable:
    """A table of headers, with the text of each value that cannot be read."""
    table: FieldTable = {}
    for key, part in _entries(raw):
        name = _text(key)
        try:
            key.decode()
            table[name] = decode.embedded_value(part)[1]
        except _UNREADABLE:
            unreadable.append(f"header {name}")
            is_time = part[:1] == b"T"
            table[name] = str(int.from_bytes(part[1:], "big")) if is_time else _escaped(part[1:])
    return table


def _entries(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value, with its kind, of each entry of a table."""
    at = 0
    while at < len(raw):
        begin = at + 1 + raw[at]
        kind = raw[begin]
        size = _counted(raw[begin + 1 :], 4) if kind in _COUNTED else _FIXED.get(kind, len(raw))
        yield raw[at + 1 : begin], raw[begin : begin + 1 + size]
        at = begin + 1 + size


def _counted(raw: bytes, width: int) -> int:
    """Bytes of a part that begins with its length."""
    return width + int.from_bytes(raw[:width], "big")


def _text(raw: bytes) -> str:
    """A short string: at most 255 bytes of UTF-8."""
    return _escaped(raw).encode()[:255].decode(errors="ignore")


def _escaped(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
