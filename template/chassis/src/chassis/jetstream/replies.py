"""Requests to the server without an answer yet: a table of futures behind one reply inbox.

Knows the answers of JetStream; knows no connection.
"""

import asyncio
import json
from collections.abc import Callable
from time import monotonic
from typing import Any

from chassis.jetstream.errors import JetStreamError
from chassis.jetstream.wire import status_of

Reply = dict[str, Any]

_STORED = b'{"stream":"'
"""Of a stored publish; its sequence comes last, unless the answer says more, which JSON reads."""

_read_json = json.JSONDecoder().decode  # half the time of json.loads, which guesses the encoding


class Replies:
    """A request without an answer raises `unavailable`; `suspect` runs if JetStream is gone."""

    def __init__(
        self,
        where: str,
        timeout: float,
        unavailable: type[ConnectionError],
        suspect: Callable[[str], None],
    ) -> None:
        self._where = where
        self._timeout = timeout
        self._unavailable = unavailable
        self._suspect = suspect
        self._prefix = ""
        self._token = 0
        self._waiting: dict[bytes, asyncio.Future[Reply]] = {}
        self._overdue: dict[bytes, asyncio.Future[Reply]] = {}
        self._turned_at = 0.0

    def begin(self, prefix: str) -> None:
        """Answers come to subjects that begin with `prefix` from now on."""
        self._prefix = prefix
        self._turned_at = monotonic()

    def expect(self) -> tuple[str, asyncio.Future[Reply]]:
        """A subject for one answer, and its future: it raises `unavailable` or JetStreamError."""
        self._token += 1
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[b"%d" % self._token] = future
        return self._prefix + str(self._token), future

    def on_reply(self, subject: bytes, _: bytes, body: bytes, block: bytes | None) -> None:
        """Give the answer to the caller that waits for it."""
        token = subject[len(self._prefix) :]
        future = self._waiting.pop(token, None) or self._overdue.pop(token, None)
        if future is None or future.done():
            return
        if not body and status_of(block) == "503":
            self._suspect("JetStream is not enabled, or what was set up in it is gone")
            error = f"nothing in NATS at {self._where} takes this: JetStream off?"
            future.set_exception(self._unavailable(error))
            return
        sequence = body[body.rfind(b":") + 1 : -1]
        if body.startswith(_STORED) and sequence.isdigit():
            future.set_result({"seq": int(sequence)})
            return
        try:
            answer = _read_json(body.decode())
        except ValueError as error:
            why = f"NATS at {self._where} gave no JSON answer: {error}"
            future.set_exception(self._unavailable(why))
            return
        refusal = answer.get("error")
        if refusal is None:
            future.set_result(answer)
        else:
            code, description = refusal.get("err_code", 0), refusal.get("description", "refused")
            future.set_exception(JetStreamError(code, description))

    def tick(self) -> None:
        """Fail old requests. With two tables by age, each fails after half to all of `timeout`."""
        if monotonic() - self._turned_at >= self._timeout / 2:
            self._turned_at = monotonic()
            self._fail(self._overdue, f"none within {self._timeout:g} s")
            self._overdue, self._waiting = self._waiting, self._overdue

    def fail(self, reason: str) -> None:
        """No answer comes any more."""
        self._fail(self._overdue, reason)
        self._fail(self._waiting, reason)

    def _fail(self, table: dict[bytes, asyncio.Future[Reply]], reason: str) -> None:
        for future in table.values():
            if not future.done():
                error = f"no answer from NATS at {self._where}: {reason}"
                future.set_exception(self._unavailable(error))
        table.clear()
