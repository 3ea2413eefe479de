"""A forge's HTTP server that is made up: it answers by a table and keeps what it was asked."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    what: str
    """Method and path, decoded."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class StandIn:
    """The server; `answers` are by method and path."""

    base: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    """JSON, or a status and JSON."""
    asked: list[Asked] = field(default_factory=list)

    def writes(self) -> list[tuple[str, Any]]:
        """What was asked and its body, without the questions that change nothing."""
        return [(each.what, each.body) for each in self.asked if not each.what.startswith("GET")]


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A running server on this machine."""
    kept = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            where = urlsplit(self.path)
            body = json.loads(self.rfile.read(length)) if length else None
            what = f"{self.command} {unquote(where.path)}"
            query = dict(parse_qsl(where.query))
            kept.asked.append(Asked(what, query, dict(self.headers), body))
            answer = kept.answers.get(what, (404, {"message": f"nothing at {what}"}))
            status, content = answer if isinstance(answer, tuple) else (200, answer)
            data = json.dumps(content).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", content)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for verb in ("GET", "POST", "PUT", "PATCH"):
        setattr(Handler, f"do_{verb}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.base = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
