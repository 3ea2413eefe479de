"""NATS with JetStream, for `dev`. The extra `dev` brings its program."""

from collections.abc import Mapping
from pathlib import Path

from chassis.tools.dev.server import Container, Launch, Place, Server, greeted


def _program(place: Place, found: Mapping[str, Path]) -> Launch:
    program = found["nats-server"]
    command = [str(program), "--jetstream", "--store_dir", str(place.folder / "data")]
    command += ["--addr", "127.0.0.1", "--port", str(place.port)]
    return Launch(command, origin=str(program))


async def _answers(place: Place) -> bool:
    return b'"jetstream":true' in await greeted(place.port, b"", b"\r\n")


async def _url(place: Place, _service: str) -> str:
    return f"nats://127.0.0.1:{place.port}"


NATS = Server(
    kind="nats",
    name="NATS",
    programs={"nats-server": ()},
    package=None,  # Debian's has no scheduled messages
    container=Container(4222, "/data", arguments=("--jetstream", "--store_dir=/data")),
    program=_program,
    answers=_answers,
    url=_url,
)
