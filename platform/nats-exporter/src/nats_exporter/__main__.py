"""`nats-exporter --url http://nats-0.nats:8222 --url …` serves /metrics until it is stopped."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from socketserver import ThreadingMixIn
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

from nats_exporter.collector import NatsCollector


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing: a line a scrape says nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    registry = CollectorRegistry()
    registry.register(NatsCollector(asked.url, timeout=asked.timeout))
    ProcessCollector(registry=registry)
    # Compression takes longer than all the rest, and Prometheus is near.
    app = make_wsgi_app(registry, disable_compression=True)
    server = make_server(asked.host, asked.port, app, _Server, _Silent)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nats-exporter", description=__doc__)
    parser.add_argument(
        "--url",
        action="append",
        required=True,
        type=_url,
        help="monitoring port of a server, such as http://nats-0.nats:8222; once for each server",
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - a container
    parser.add_argument("--port", type=int, default=7777, help="port to listen on")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for each answer")
    return parser


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the address of a monitoring port: give one such as http://nats:8222"
        )
    return text.rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
