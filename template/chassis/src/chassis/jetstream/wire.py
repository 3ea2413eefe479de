"""NATS on the wire: header blocks, and nats-py's client with a short way in and out.

Knows bytes and subjects; knows no JetStream, no stream and no event.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import BadSubscriptionError, ConnectionClosedError, ConnectionDrainingError

from chassis.jetstream.protocol import OnMessage, WireTransport

DISCARD_SECONDS = 2.0

_FIRST_LINE = b"NATS/1.0"
_log = structlog.get_logger(__name__)


def encode_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """The header block. Line breaks in a value become spaces, so a value never ends its line."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return header_block(f"{name}: {one_line(value)}".encode() for name, value in pairs)


def header_block(lines: Iterable[bytes]) -> bytes:
    return b"\r\n".join((_FIRST_LINE, *lines, b"", b""))


def header_lines(block: bytes | None) -> list[bytes]:
    """The header lines of a block, byte for byte; other content of a broken block is left out."""
    if not block:
        return []
    return [
        line
        for line in block.split(b"\r\n")[1:]
        if line.partition(b":")[0].strip() and b":" in line
    ]


def decode_headers(block: bytes | None) -> dict[str, str]:
    """Names and values. Bytes that are not UTF-8 are replaced: a foreign block never raises."""
    headers: dict[str, str] = {}
    if block:
        for line in block.decode("utf-8", "replace").split("\r\n")[1:]:
            name, colon, value = line.partition(":")
            if colon and (name := name.strip()):
                headers[name] = value.strip()
    return headers


def status_of(block: bytes | None) -> str:
    """The status code of a message from the server itself, such as 408; empty without one."""
    if not block or not block.startswith(_FIRST_LINE + b" "):
        return ""
    return block[len(_FIRST_LINE) + 1 :][:3].decode("ascii", "replace")


def status_line(block: bytes | None) -> str:
    """The status in the server's words, such as `409 Consumer Deleted`."""
    first = (block or b"").partition(b"\r\n")[0]
    return first.removeprefix(_FIRST_LINE).decode("utf-8", "replace").strip()


class WireClient(Client):
    """nats-py's client with messages past it in both ways.

    nats-py connects, signs in and speaks the rest of the protocol. Its parser raises on header
    blocks that the server lets pass, which ends its read loop: one broken message would stop a
    consumer for good. Commands go straight to the transport, all of one loop tick in one write.
    """

    def __init__(self) -> None:
        super().__init__()
        self._routes: dict[bytes, OnMessage] = {}
        self._commands: list[bytes] = []
        self._routed: list[Subscription] = []
        self._socket = self._transport = WireTransport(self._routes, self._heard)

    @property
    def unanswered_pings(self) -> int:
        """How many pings, one every `ping_interval`, were sent since the server was last heard."""
        return self._pings_outstanding

    @property
    def server_version(self) -> tuple[int, int, int]:
        version = self.connected_server_version
        return version.major, version.minor, version.patch

    @property
    def nodes(self) -> int:
        """How many servers the cluster has; 1 without a cluster, or if they do not advertise."""
        known = self._server_info.get("connect_urls") or []
        return len(set(known)) if known and self._server_info.get("cluster") else 1

    async def route(self, subject: str, on_message: OnMessage) -> Subscription:
        """Subscribe; returns when the server knows, so no reply to a later request is missed."""
        subscription = await self.subscribe(subject, cb=_unrouted)
        self._routes[b"%d" % subscription._id] = on_message  # noqa: SLF001 - has no public name
        self._routed.append(subscription)
        await self.flush()
        return subscription

    def send(self, subject: str, body: bytes, reply: str = "", headers: bytes = b"") -> None:
        """Publish at the end of this loop tick. Subjects must be valid: nothing checks them."""
        if headers:
            size = len(headers)
            head = f"HPUB {subject} {reply} {size} {size + len(body)}\r\n".encode()
            self._push(head + headers + body + b"\r\n")
        else:
            self._push(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    async def discard(self) -> None:
        """Close a connection in any state, lost, half open or hanging, within DISCARD_SECONDS."""
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                for subscription in self._routed:
                    with suppress(
                        BadSubscriptionError, ConnectionClosedError, ConnectionDrainingError
                    ):
                        await subscription.unsubscribe()
                if not self.is_closed and self._socket.used:
                    await self.close()
        except (OSError, RuntimeError, TimeoutError, nats.errors.Error) as error:
            _log.debug("a connection to NATS was not closed in order", error=str(error))

    def write_out(self) -> None:
        """Hand all commands to the transport now, not at the end of the tick."""
        commands, self._commands = self._commands, []
        if not commands or not self.is_connected:
            return
        try:
            self._socket.write(b"".join(commands))
        except RuntimeError as error:  # of uvloop, if the transport closed within this tick
            _log.debug("the transport of a connection to NATS has closed", error=str(error))

    def _push(self, command: bytes) -> None:
        if not self._commands:
            asyncio.get_running_loop().call_soon(self.write_out)
        self._commands.append(command)

    def _connect_command(self) -> bytes:
        """Called by nats-py, after TLS if the server wants it. For `tls://` we insist on TLS."""
        server = self._current_server
        if (
            server is not None
            and server.uri.scheme == "tls"
            and not self._server_info.get("tls_required")
        ):
            raise nats.errors.Error(
                "tls:// was asked for, but the server does not require TLS: nothing was sent to it"
            )
        return super()._connect_command()

    def _heard(self) -> None:
        self._pings_outstanding = 0  # behind many messages, the answer to a ping can be late


async def _unrouted(_: Msg) -> None:
    """nats-py needs a coroutine function to subscribe; messages never reach it."""


def one_line(value: str) -> str:
    return value if value.isprintable() else value.replace("\r", " ").replace("\n", " ")
