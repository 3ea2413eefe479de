"""The headers of a delivery, read without an object for the message's other properties.

The common case is read here: strings, whole numbers, and properties that a client can read. All
else is read by `frames`, with the same result.
"""

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - an exception is named as one

from pamqp.commands import Basic

from chassis.bus.rabbitmq.frames import MendedHeader, content_header

_FLAGS, _LONG, _INT64 = Struct(">H"), Struct(">I"), Struct(">q")
_FLAGS_AT = 12
_HAS_CONTENT_TYPE = 0x80
_STRING, _NUMBER = ord("S"), ord("l")
_LATEST = 2**32
"""Above it, a time is not in seconds; a client guesses."""


def read_headers(header: bytes) -> tuple[Mapping[str, object], bytes | Basic.Properties, str]:
    """The headers in the payload of a header frame, the properties, and what no client can read.

    Properties that need no mending stay encoded. Raises InvalidFrameError.
    """
    try:
        return _common(header), header, ""
    except (ValueError, IndexError, StructError):
        content = content_header(header)
        unreadable = content.unreadable if isinstance(content, MendedHeader) else ""
        return content.properties.headers or {}, content.properties, unreadable


def content_type(header: bytes) -> str | None:
    """From a header of the common case."""
    if not header[_FLAGS_AT] & _HAS_CONTENT_TYPE:
        return None
    begin = _FLAGS_AT + _FLAGS.size + 1
    return header[begin : begin + header[begin - 1]].decode()


def _common(header: bytes) -> dict[str, object]:
    """Raises ValueError, IndexError or StructError if the header is none of the common case."""
    (flags,) = _FLAGS.unpack_from(header, _FLAGS_AT)
    at = _FLAGS_AT + _FLAGS.size
    headers: dict[str, object] = {}
    for kind in _kinds(flags):
        if kind == "shortstr":
            begin = at + 1
            at = begin + header[at]
            header[begin:at].decode()
        elif kind == "octet":
            at += 1
        elif kind == "table":
            headers, at = _table(header, at)
        else:
            if _INT64.unpack_from(header, at)[0] not in range(_LATEST):
                raise ValueError("a time in another unit")
            at += _INT64.size
    if at > len(header):
        raise IndexError(at)
    return headers


def _table(data: bytes, at: int) -> tuple[dict[str, object], int]:
    """The table at `at`, and where it ends."""
    end = at + _LONG.size + _LONG.unpack_from(data, at)[0]
    at += _LONG.size
    table: dict[str, object] = {}
    while at < end:
        name_end = at + 1 + data[at]
        name = data[at + 1 : name_end].decode()
        kind = data[name_end]
        at = name_end + 1
        if kind == _STRING:
            begin = at + _LONG.size
            at = begin + _LONG.unpack_from(data, at)[0]
            table[name] = data[begin:at].decode()
        elif kind == _NUMBER:
            table[name] = _INT64.unpack_from(data, at)[0]
            at += _INT64.size
        else:
            raise ValueError("another kind of value")
    if at != end:
        raise IndexError(at)
    return table, end


@lru_cache(maxsize=64)
def _kinds(flags: int) -> tuple[str, ...]:
    """The kinds of the properties, in their order. Raises ValueError if there are unknown ones."""
    known = Basic.Properties.flags
    if flags & ~sum(known.values()):
        raise ValueError("unknown properties")
    return tuple(Basic.Properties.amqp_type(name) for name in known if flags & known[name])
