"""The cable carries what is sent, and breaks when it is cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.brokers.cable import Cable
from tests.brokers.process import free_port


@asynccontextmanager
async def _echo() -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield port


async def test_carries_both_ways_and_the_end_too() -> None:
    async with _echo() as port:
        with Cable(port).laid() as cable:
            reader, writer = await asyncio.open_connection("127.0.0.1", cable.port)
            writer.write(b"there and back")
            writer.write_eof()
            assert await reader.read() == b"there and back"
            writer.close()


async def test_a_cut_breaks_connections_until_it_is_mended() -> None:
    async with _echo() as port:
        with Cable(port).laid() as cable:
            before, to_before = await asyncio.open_connection("127.0.0.1", cable.port)
            to_before.write(b"x")
            assert await before.read(1) == b"x"
            cable.cut()
            with pytest.raises(ConnectionError):
                await before.readexactly(1)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await (await asyncio.open_connection("127.0.0.1", cable.port))[0].readexactly(1)
            cable.mend()
            after, writer = await asyncio.open_connection("127.0.0.1", cable.port)
            writer.write(b"y")
            assert await after.read(1) == b"y"
            writer.close()


def test_a_url_through_it_keeps_all_but_the_port() -> None:
    cable = Cable(5672)
    assert cable.through("amqp://guest:guest@127.0.0.1:5672/vhost?x=1") == (
        f"amqp://guest:guest@127.0.0.1:{cable.port}/vhost?x=1"
    )
