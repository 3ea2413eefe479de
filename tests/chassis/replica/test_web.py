"""A mounted app: served beside the consumer, drained with it, counted and traced."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import aiohttp
import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from prometheus_client import CollectorRegistry, generate_latest

from chassis import Context, Service
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.event_types import to_event
from chassis.replica.probes import PortTaken
from chassis.replica.process import run
from chassis.replica.web.server import WebFailed
from chassis.service import RegistrationError
from chassis.settings import Settings, load
from chassis.telemetry.collectors import Imported
from tests.brokers.nats import nats
from tests.chassis.conftest import LogLines
from tests.waiting import PATIENCE, PATIENCE_WITH_PROCESSES, eventually, until

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Scope = MutableMapping[str, Any]
Answer = Callable[[Scope], Awaitable[bytes]]


def settings(**given: object) -> Settings:
    return load(
        {},
        **{"bus_url": "memory://", "http_host": "127.0.0.1", "http_port": 0, "api_port": 0} | given,
    )


class App:
    """A bare ASGI app. `answer` gives the body; `steps` has its startup and shutdown."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.steps: list[str] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                self.steps.append(step)
                await send({"type": f"lifespan.{step}.complete"})
            return
        body = await self.answer(scope)
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": body})


class World:
    """A service that runs over memory, and its caller."""

    def __init__(self, service: Service, broker: MemoryBroker, log_lines: LogLines) -> None:
        self.service = service
        self.broker = broker
        self._log_lines = log_lines
        self._seen: list[dict[str, Any]] = []

    def logged(self, event: str) -> list[dict[str, Any]]:
        self._seen += self._log_lines()
        return [line for line in self._seen if line["event"] == event]

    async def post(self, path: str = "/orders", **headers: str) -> tuple[int, bytes]:
        port = self.logged("serving HTTP")[0]["port"]
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{port}{path}", headers=headers) as response,
        ):
            return response.status, await response.read()

    @asynccontextmanager
    async def running(self, given: Settings | None = None) -> AsyncIterator["asyncio.Task[None]"]:
        """Ends with a signal, if the test has sent none."""
        task = asyncio.create_task(run(self.service, given or settings()))
        await eventually(lambda: task.done() or bool(self.logged("serving HTTP")))
        try:
            yield task
        finally:
            if not self.logged("stopping"):
                terminate()
            await asyncio.wait_for(task, PATIENCE)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, log_lines: LogLines) -> World:
    broker = MemoryBroker()
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: MemoryBus(broker))
    return World(Service("billing-svc"), broker, log_lines)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_an_app_publishes_from_a_request(world: World) -> None:
    got: list[tuple[str, str | None]] = []

    @world.service.on(AccountOpened)
    async def note(event: AccountOpened, ctx: Context) -> None:
        got.append((ctx.event_id, ctx.traceparent))

    async def answer(_: Scope) -> bytes:
        return (await world.service.publish(AccountOpened(), id="o-1")).encode()

    app = App(answer)
    world.service.mount(app)
    async with world.running():
        assert await world.post(traceparent=PARENT) == (201, b"o-1")
        await eventually(lambda: bool(got))
        assert app.steps == ["startup"]
    assert got == [("o-1", PARENT)], "the event continues the request's trace"
    assert app.steps == ["startup", "shutdown"]


@pytest.mark.parametrize("header", ["nonsense", PARENT + "-\u00e9", PARENT.upper()])
async def test_what_is_no_trace_context_does_not_reach_an_event(world: World, header: str) -> None:
    seen: list[str | None] = []

    @world.service.on(AccountOpened)
    async def note(event: AccountOpened, ctx: Context) -> None:
        seen.append(ctx.traceparent)

    async def answer(_: Scope) -> bytes:
        return (await world.service.publish(AccountOpened())).encode()

    world.service.mount(App(answer))
    async with world.running():
        assert (await world.post(traceparent=header))[0] == 201
        await eventually(lambda: bool(seen))
    assert seen == [None]


async def test_a_drain_takes_no_event_and_no_request_and_answers_those_in_flight(
    world: World,
) -> None:
    begun, go_on, handled = asyncio.Event(), asyncio.Event(), []

    @world.service.on(UserSignedUp)
    async def sign_up(event: UserSignedUp, ctx: Context) -> None:
        handled.append(ctx.event_id)

    async def answer(_: Scope) -> bytes:
        begun.set()
        await go_on.wait()
        return (await world.service.publish(AccountOpened(), id="late")).encode()

    world.service.mount(App(answer))
    async with world.running():
        port = world.logged("serving HTTP")[0]["port"]
        request = asyncio.create_task(world.post())
        await begun.wait()
        terminate()
        await eventually(lambda: refused(port))
        bus = MemoryBus(world.broker)
        await bus.publish(to_event(UserSignedUp(), source="shop", id_="e-1"))
        go_on.set()
        assert await asyncio.wait_for(request, PATIENCE) == (201, b"late")
    assert handled == []
    assert world.logged("drained")[0]["abandoned"] == 0


def refused(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) != 0


async def test_a_request_beyond_the_deadline_does_not_hold_up_the_drain(world: World) -> None:
    begun = asyncio.Event()

    async def answer(_: Scope) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    world.service.mount(App(answer))
    async with world.running(settings(drain_seconds=0.2)):
        request = asyncio.create_task(world.post())
        await begun.wait()
        terminate()
        await asyncio.wait([request], timeout=PATIENCE)
    assert world.logged("stopped")
    assert (await request)[0] == 500


async def test_requests_are_counted_by_route_and_not_by_path(world: World) -> None:
    class Route:
        path = "/orders/{order}"

    async def answer(scope: Scope) -> bytes:
        if scope["path"] == "/broken":
            raise ValueError("a defect")
        if scope["path"].startswith("/orders/"):
            scope["route"] = Route()
        return b""

    world.service.mount(App(answer))
    registry = CollectorRegistry()
    registry.register(Imported())

    def count(route: str, status: str) -> float:
        labels = {"route": route, "method": "POST", "status": status}
        name = "http_server_request_duration_seconds_count"
        return registry.get_sample_value(name, labels) or 0.0

    before = count("/orders/{order}", "201"), count("unknown", "201"), count("unknown", "500")
    async with world.running():
        for path in ("/orders/1", "/orders/2", "/elsewhere"):
            assert (await world.post(path))[0] == 201
        assert (await world.post("/broken"))[0] == 500
    after = count("/orders/{order}", "201"), count("unknown", "201"), count("unknown", "500")
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1, 1]
    assert b"/orders/1" not in generate_latest(registry)


async def test_an_app_that_does_not_start_ends_the_start(world: World) -> None:
    async def broken(scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no template folder"})

    world.service.mount(broken)
    with pytest.raises(WebFailed, match="the startup of the mounted app failed"):
        await run(world.service, settings())
    assert world.service.direct is None
    assert "no template folder" in str(world.logged("no template folder"))


async def test_a_port_that_is_taken_names_the_setting(world: World) -> None:
    world.service.mount(App(_nothing))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"CHASSIS_API_PORT={port}: cannot listen there"):
            await run(world.service, settings(api_port=port))
    assert world.broker.queues == {}


async def test_a_service_without_uvicorn_says_what_to_install(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    world.service.mount(App(_nothing))
    with pytest.raises(WebFailed, match=r"add dockyard-chassis\[http\]"):
        await run(world.service, settings())


def test_a_service_has_one_app() -> None:
    service = Service("billing-svc")
    service.mount(App(_nothing))
    with pytest.raises(RegistrationError, match="billing-svc has an app already"):
        service.mount(App(_nothing))


async def _nothing(_: Scope) -> bytes:
    return b""


SLOW = """
import asyncio
from chassis import Service
from chassis.cli import main
from google.protobuf.empty_pb2 import Empty

service = Service("billing-svc", version="1.2.3")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    print("begun", flush=True)
    await asyncio.sleep(1)
    await service.publish(Empty(), id="late")
    await send({"type": "http.response.start", "status": 202, "headers": []})
    await send({"type": "http.response.body", "body": b"published"})

service.mount(app)

@service.on(Empty)
async def nothing(event, ctx): ...

main(service)
"""


async def test_sigterm_during_a_slow_request_still_answers_it_and_ends_with_0(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    log = tmp_path / "log"
    with nats(tmp_path) as broker, log.open("wb") as out, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        env = {"CHASSIS_BUS_URL": broker.url, "CHASSIS_HTTP_PORT": "0"}
        env |= {"CHASSIS_API_PORT": str(port), "CHASSIS_HTTP_HOST": "127.0.0.1"}
        process = started(tmp_path, env, out)
        try:
            await asyncio.to_thread(until, lambda: '"ready"' in log.read_text(), log.read_text)
            async with aiohttp.ClientSession() as session:
                url = f"http://127.0.0.1:{port}/"
                request = asyncio.create_task(_post(session, url))
                await asyncio.to_thread(until, lambda: "begun" in log.read_text(), "the request")
                process.terminate()
                assert await request == (202, "published")
            code = await asyncio.to_thread(process.wait, PATIENCE_WITH_PROCESSES)
        finally:
            process.kill()
    assert code == 0, log.read_text()


def started(folder: Path, env: dict[str, str], out: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "slow.py", "run"],
        cwd=folder,
        env=os.environ | env,
        stdout=out,
        stderr=subprocess.STDOUT,
    )


async def _post(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.post(url) as response:
        return response.status, await response.text()
