"""A rendered service against real brokers, fed by publishers that do not use the chassis."""

import asyncio
import json
import random
import re
from collections import Counter
from pathlib import Path

from tests.e2e.conftest import Start
from tests.e2e.publishers import SIGNED_UP, bare_publisher, publish_all, signed_up
from tests.e2e.replicas import Effects, Replica
from tests.waiting import PATIENCE_WITH_PROCESSES as PATIENCE
from tests.waiting import until

MEGABYTE = 1024 * 1024


def _settled(replica: Replica) -> float:
    consumed = f'messaging_client_consumed_messages_total{{outcome="%s",type="{SIGNED_UP}"}}'
    return replica.metric(consumed % "done") + replica.metric(consumed % "duplicate")


async def test_a_thousand_events_each_sent_three_times_to_two_replicas_have_a_thousand_effects(
    start: Start, bus_url: str, effects: Effects
) -> None:
    replicas = [start(), start()]
    ids = [f"e-{number}" for number in range(1000)]
    async with bare_publisher(bus_url) as publisher:
        await publish_all(publisher, [(id_, signed_up(id_)) for id_ in ids for _ in range(3)])
    assert effects.until(1000) == Counter(ids)
    until(
        lambda: sum(_settled(replica) for replica in replicas) == 3000,
        "three thousand being settled",
    )
    assert effects.counts() == Counter(ids)


async def test_garbage_goes_to_the_dead_letters_and_the_next_good_event_is_handled(
    start: Start, bus_url: str, effects: Effects
) -> None:
    replica = start()
    random_ = random.Random(7)
    broken_headers: list[dict[str, str]] = [
        {},
        {"cloudEvents:id": "x", "ce-id": "x"},
        {"cloudEvents:specversion": "0.3", "ce-specversion": "0.3"},
        {
            "cloudEvents:specversion": "1.0",
            "cloudEvents:id": "x",
            "ce-specversion": "1.0",
            "ce-id": "x",
        },
    ]
    async with bare_publisher(bus_url) as publisher:
        for number in range(100):
            await publisher.publish(f"warm-{number}", signed_up("warm"))
        effects.until(100)
        before = replica.resident_bytes()
        for number in range(500):
            await publisher.publish_raw(
                broken_headers[number % 4], random_.randbytes(random_.randrange(4096))
            )
        await publisher.publish("truncated", signed_up("u")[:-1])
        await publisher.publish("good", signed_up("good"))
        effects.until(101)
    until(lambda: len(replica.dead_letters()) >= 501, "every one being in the dead letters")
    letters = replica.dead_letters()
    assert len(letters) == 501
    assert Counter(letter["reason"] for letter in letters) == Counter(
        bad_envelope=500, undecodable=1
    )
    assert all(letter["message"] for letter in letters)
    assert replica.resident_bytes() - before < 50 * MEGABYTE


async def test_sigterm_with_two_hundred_in_flight_ends_in_order_and_every_event_is_handled_once(
    start: Start, bus_url: str, effects: Effects, tmp_path: Path
) -> None:
    times = {"DRAIN_SECONDS": 60, "HANDLER_TIMEOUT_SECONDS": 60, "LEASE_SECONDS": 65}
    gate = tmp_path / "gate"
    first = start(gate=gate, PREFETCH=200, **times)
    ids = [f"e-{number}" for number in range(400)]
    async with bare_publisher(bus_url) as publisher:
        await publish_all(publisher, [(id_, signed_up(id_)) for id_ in ids])
        until(
            lambda: first.metric("chassis_in_flight_messages") == 200, "two hundred being in flight"
        )
    ended = asyncio.create_task(asyncio.to_thread(first.terminate))
    await asyncio.to_thread(until, lambda: not first.ready(), "the replica taking no more")
    assert not effects.counts()
    gate.touch()
    assert await ended == 0
    assert len(effects.counts()) == 200, "what was in flight at SIGTERM is finished"
    start()
    assert effects.until(400) == Counter(ids)


async def test_the_drain_deadline_hands_back_what_is_not_finished(
    start: Start, bus_url: str, effects: Effects
) -> None:
    slow = start(pause=25, DRAIN_SECONDS=1)
    async with bare_publisher(bus_url) as publisher:
        await publisher.publish("slow", signed_up("slow"))
        until(lambda: slow.metric("chassis_in_flight_messages") == 1, "the event being in flight")
    assert slow.terminate() == 0
    assert not effects.counts()
    start()
    assert effects.until(1) == Counter(["slow"])


async def test_the_commands_of_a_service_publish_show_replay_and_discard(
    start: Start, effects: Effects
) -> None:
    replica = start(MAX_ATTEMPTS=2)
    done = replica.command(
        "publish", "UserSignedUp", "--json", '{"userId": "u-1"}', "--id", "e-1", "--count", "3"
    )
    assert done.returncode == 0, done.stderr
    assert effects.until(3) == Counter(["e-1-1", "e-1-2", "e-1-3"])
    for id_ in ("bad-1", "bad-2"):
        replica.command("publish", SIGNED_UP, "--json", '{"email": "poison"}', "--id", id_)
    until(lambda: len(replica.dead_letters()) == 2, "the dead letters")
    letter = replica.dead_letters()[0]
    assert (letter["reason"], letter["error"], letter["attempts"]) == (
        "attempts_exhausted",
        "builtins.ValueError",
        2,
    )
    shown = replica.command("dlq", "show", letter["id"][:12])
    assert '"email": "poison"' in shown.stdout
    assert "Traceback" in shown.stdout
    assert replica.command("dlq", "replay", "--all", "--dry-run").stdout == "would replay 2\n"
    assert replica.command("dlq", "replay", letter["id"]).stdout == "replayed 1\n"
    until(lambda: len(replica.dead_letters()) == 2, "the poison being back in the dead letters")
    assert replica.command("dlq", "discard", "--all").returncode != 0, "nobody is there to confirm"
    assert (
        replica.command("dlq", "discard", "--reason", "attempts_exhausted", "--yes").stdout
        == "discarded 2\n"
    )
    assert replica.dead_letters() == []


def test_load_publishes_and_follows_the_handling_to_its_end(start: Start, effects: Effects) -> None:
    replicas = [start(), start()]
    urls = [f"http://127.0.0.1:{replica.http_port}/metrics" for replica in replicas]
    where = [word for url in urls for word in ("--metrics", url)]
    done = replicas[0].command("load", "--count", "500", "--json", *where)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    counted = ("published", "not_confirmed", "handled", "duplicates", "dead_letters", "not_handled")
    assert [figures[name] for name in counted] == [500, 0, 500, 0, 0, 0]
    assert figures["handled_per_second"] > 0
    assert 0 < figures["age_seconds_p50"] <= figures["age_seconds_p99"]
    assert len(effects.counts()) == 500
    poison = replicas[0].command(
        "load", "UserSignedUp", "--count", "3", "--body", '{"email": "poison"}', *where
    )
    assert poison.returncode == 1
    assert re.search(r"^dead letters +3$", poison.stdout, re.MULTILINE)


def test_tail_shows_events_without_taking_them(start: Start, effects: Effects) -> None:
    replica = start()
    with replica.running("tail", "UserSignedUp", "--limit", "1") as tail:
        assert tail.stderr is not None
        assert "waiting for events" in tail.stderr.readline()
        published = replica.command(
            "publish", "UserSignedUp", "--json", '{"user_id": "u-1"}', "--id", "e-1"
        )
        assert published.returncode == 0, published.stderr
        shown, _ = tail.communicate(timeout=PATIENCE)
    assert f"{SIGNED_UP}  e-1  from billing-svc-cli" in shown
    assert '"user_id": "u-1"' in shown
    assert effects.until(1) == Counter(["e-1"])


def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(
    service: Path, tmp_path: Path
) -> None:
    env = {"CHASSIS_BUS_URL": "nats://user:secret@127.0.0.1:1"}
    done = Replica(service, env | {"CHASSIS_PREFETCH": "0"}, tmp_path / "log").command("run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "CHASSIS_PREFETCH" in done.stderr
    config = Replica(service, env, tmp_path / "log").command("config")
    assert config.returncode == 0
    assert "CHASSIS_BUS_URL=nats://user:***@127.0.0.1:1" in config.stdout
    assert "secret" not in config.stdout
