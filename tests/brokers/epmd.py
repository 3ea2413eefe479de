"""An Erlang port mapper for one node, which tells it at which ports it reaches the others.

A real one tells every node the same. Knows the mapper's protocol; knows no broker.
"""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

from tests.brokers.process import free_port

_ALIVE, _WHERE, _NAMES = 120, 122, 110
_REGISTERED = struct.pack(">BBI", 118, 0, 1)
_UNKNOWN = struct.pack(">BB", 119, 1)


class _Mapper(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, others: Mapping[str, int]) -> None:
        super().__init__(("127.0.0.1", port), _Request)
        self.names = dict(others)


class _Request(StreamRequestHandler):
    server: _Mapper

    def handle(self) -> None:
        size = self.rfile.read(2)
        if len(size) < 2:  # somebody only asked if the port is open
            return
        request = self.rfile.read(struct.unpack(">H", size)[0])
        names, mapper = self.server.names, self.server.server_address[1]
        if request[0] == _ALIVE:
            self._register(request)
        elif request[0] == _WHERE:
            self.wfile.write(_where(request[1:].decode(), names))
        elif request[0] == _NAMES:
            told = "".join(f"name {name} at port {port}\n" for name, port in names.items())
            self.wfile.write(struct.pack(">I", mapper) + told.encode())

    def _register(self, request: bytes) -> None:
        """Keep the name until the connection ends, with its node."""
        port, length = struct.unpack(">H6xH", request[1:11])
        name = request[11 : 11 + length].decode()
        self.server.names[name] = port
        self.wfile.write(_REGISTERED)
        self.rfile.read()
        if self.server.names.get(name) == port:
            del self.server.names[name]


def _where(name: str, names: Mapping[str, int]) -> bytes:
    if name not in names:
        return _UNKNOWN
    head = struct.pack(">BBHBBHHH", 119, 0, names[name], 77, 0, 6, 5, len(name))
    return head + name.encode() + b"\0\0"


@contextmanager
def mapper(others: Mapping[str, int]) -> Iterator[int]:
    """The port of a mapper that knows the `others` from the beginning."""
    with _Mapper(free_port(), others) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
