"""What a load test reads from the metrics of replicas: sums, differences, quantiles of the age."""

from collections import Counter
from collections.abc import AsyncIterator
from math import inf

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import generate_latest

from chassis.telemetry.metrics import Metrics
from chassis.tools.scrape import Reading, ScrapeError, read

TYPE = "acme.signup.v1.UserSignedUp"


@pytest.fixture
async def replicas() -> AsyncIterator[tuple[list[Metrics], list[str]]]:
    """Metrics of two replicas, and where they are served."""
    metrics = [Metrics("billing-svc", "1", "1") for _ in range(2)]
    servers = []
    for each in metrics:
        app = web.Application()

        async def answer(_: web.Request, each: Metrics = each) -> web.Response:
            return web.Response(body=generate_latest(each.registry))

        app.router.add_get("/metrics", answer)
        servers.append(TestServer(app))
        await servers[-1].start_server()
    yield metrics, [str(server.make_url("/metrics")) for server in servers]
    for server in servers:
        await server.close()


async def test_a_reading_sums_up_the_replicas_and_leaves_other_types_out(
    replicas: tuple[list[Metrics], list[str]],
) -> None:
    (first, second), urls = replicas
    first.for_type(TYPE).done.inc(3)
    second.for_type(TYPE).done.inc(4)
    second.for_type(TYPE).duplicate.inc()
    second.for_type(TYPE).retried.inc(5)
    first.for_type(TYPE).age.observe(0.02)
    second.for_type("other").done.inc(100)
    second.for_type("other").age.observe(0.02)
    second.dead("rejected")
    async with aiohttp.ClientSession() as http:
        reading = await read(http, urls, frozenset({TYPE}))
    assert +reading.outcomes == Counter(done=7, duplicate=1, retried=5)
    assert (reading.settled, reading.dead, reading.ages[inf]) == (8, 1, 1)


async def test_what_answers_but_not_with_metrics_is_named(
    replicas: tuple[list[Metrics], list[str]],
) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(ScrapeError, match=r"no metrics at http://.*/elsewhere: 404"):
            await read(http, [replicas[1][0].replace("/metrics", "/elsewhere")], frozenset({TYPE}))


def test_only_what_came_after_counts() -> None:
    before = Reading(Counter(done=5), 1, Counter({0.1: 5, inf: 5}))
    after = Reading(Counter(done=8, dead=1), 2, Counter({0.1: 6, inf: 8}))
    assert after.since(before) == Reading(Counter(done=3, dead=1), 1, Counter({0.1: 1, inf: 3}))


def test_a_replica_that_began_to_count_anew_is_noticed() -> None:
    before, after = (Reading(Counter(done=number), 0, Counter()) for number in (5, 4))
    with pytest.raises(ScrapeError, match="a replica was restarted meanwhile"):
        after.since(before)


def test_the_age_is_interpolated_as_prometheus_does() -> None:
    reading = Reading(Counter(), 0, Counter({0.01: 0, 0.1: 50, 1.0: 90, inf: 100}))
    assert reading.age(0.25) == pytest.approx(0.01 + 0.09 * 0.5)
    assert reading.age(0.9) == pytest.approx(1.0)
    assert reading.age(0.99) == 1.0, "beyond the last bound nothing is known"
    assert Reading(Counter(), 0, Counter()).age(0.5) is None
