"""Headers of a message that moves within NATS: a retry, a replay, a dead letter.

The server acts on headers named `Nats-…` and the chassis on its own. A copy therefore carries such
headers of the original under another name. `originals` undoes `carried`, byte for byte.
Knows no connection.
"""

from datetime import UTC, datetime
from urllib.parse import quote, unquote

from chassis.bus import DeadLetter, Failure
from chassis.bus.dead_letters import PREFIX, failure_headers, read_failure
from chassis.bus.history import REPLAYS, History
from chassis.contracts.envelope import NATS_PREFIX, format_time, is_json
from chassis.jetstream.wire import decode_headers, header_block, header_lines

DEDUPLICATE = "Nats-Msg-Id"

_KEPT = b"chassis-kept-"
_ACTED_ON = (b"nats-", b"chassis-", PREFIX.encode())
_TYPE = PREFIX + "type"
_READABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


def originals(block: bytes | None, *, moved: bool) -> list[bytes]:
    """The header lines as first published. `moved`: the block is of a copy by the chassis."""
    lines = header_lines(block)
    if not moved:
        return lines
    kept = [line for line in lines if line.startswith(_KEPT) or not _is_acted_on(line)]
    return [line.removeprefix(_KEPT) for line in kept]


def carried(lines: list[bytes]) -> list[bytes]:
    """Original header lines, fit to be put on a copy."""
    return [_KEPT + line if _is_acted_on(line) else line for line in lines]


def marks(block: bytes | None) -> dict[str, str]:
    """The headers that the chassis wrote on a copy."""
    lines = [
        line for line in header_lines(block) if _is_acted_on(line) and not line.startswith(_KEPT)
    ]
    return decode_headers(header_block(lines))


def named(**headers: object) -> list[bytes]:
    """Header lines; `_` in a name stands for `-`."""
    return [f"{name.replace('_', '-')}: {value}".encode() for name, value in headers.items()]


def schedule(target: str, at: float) -> list[bytes]:
    """Headers that make the server publish the message to `target` at the time `at` (ADR-51)."""
    moment = format_time(datetime.fromtimestamp(at, UTC))
    return named(Nats_Schedule=f"@at {moment}", Nats_Schedule_Target=target)


def letter_lines(lines: list[bytes], type_: str, failure: Failure, replays: int = 0) -> list[bytes]:
    """Header lines of a dead letter: original ones, replays, the failure percent-encoded."""
    about = {_TYPE: type_} | failure_headers(failure)
    return [*carried(lines), *named(**{REPLAYS: replays})] + [
        f"{name}: {quote(str(value), safe=_READABLE)}".encode() for name, value in about.items()
    ]


def read_letter(id_: str, block: bytes | None, body: bytes) -> DeadLetter:
    about = {name: unquote(value) for name, value in marks(block).items()}
    headers = decode_headers(header_block(originals(block, moved=True)))
    return DeadLetter(
        id=id_,
        headers=headers,
        body=body,
        type=about.get(_TYPE) or headers.get(NATS_PREFIX + "type", ""),
        failure=read_failure(about),
        replays=History.read(about).replays,
        json=is_json(headers.get("content-type") or headers.get("Content-Type")),
    )


def _is_acted_on(line: bytes) -> bool:
    return line.lstrip().lower().startswith(_ACTED_ON)
