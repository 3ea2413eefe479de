"""Readiness, liveness, and what the signals do."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from chassis.replica.lifecycle import STUCK_SECONDS, Health, Lifecycle


def test_without_conditions_a_replica_is_ready() -> None:
    assert Lifecycle().readiness() == Health(True)


def test_a_replica_is_ready_while_all_conditions_hold_and_says_which_do_not() -> None:
    state = {"bus": False, "inbox": False}
    lifecycle = Lifecycle()
    lifecycle.require("bus", lambda: state["bus"])
    lifecycle.require("inbox", lambda: state["inbox"])
    assert lifecycle.readiness() == Health(False, ("bus", "inbox"))
    state["bus"] = True
    assert lifecycle.readiness() == Health(False, ("inbox",))
    state["inbox"] = True
    assert lifecycle.readiness() == Health(True)


def test_a_draining_replica_is_not_ready() -> None:
    lifecycle = Lifecycle()
    lifecycle.stop()
    assert lifecycle.readiness() == Health(False, ("draining",))


def test_a_replica_without_a_heartbeat_is_not_alive() -> None:
    now = 0.0
    lifecycle = Lifecycle(lambda: now)
    now = STUCK_SECONDS - 0.001
    assert lifecycle.liveness() == Health(True)
    now = STUCK_SECONDS
    assert lifecycle.liveness() == Health(False, ("event_loop_stuck",))


async def test_each_beat_renews_liveness_and_reports_the_lag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    lags: list[float] = []
    beaten = asyncio.Event()
    monkeypatch.setattr("chassis.replica.lifecycle.HEARTBEAT_SECONDS", 0.001)
    lifecycle = Lifecycle(lambda: now)

    def on_lag(seconds: float) -> None:
        lags.append(seconds)
        beaten.set()

    beating = asyncio.create_task(lifecycle.beat(on_lag))
    await asyncio.sleep(0)
    now = STUCK_SECONDS + 0.001
    assert not lifecycle.liveness().ok
    await asyncio.wait_for(beaten.wait(), 20)
    assert lifecycle.liveness().ok
    assert lags[0] == pytest.approx(STUCK_SECONDS)
    beating.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_begins_the_drain(number: signal.Signals) -> None:
    lifecycle = Lifecycle()
    lifecycle.handle_signals()
    os.kill(os.getpid(), number)
    await asyncio.wait_for(lifecycle.stopping.wait(), 20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    code = (
        "import asyncio\n"
        "from chassis.replica.lifecycle import Lifecycle\n"
        "async def main():\n"
        "    lifecycle = Lifecycle()\n"
        "    lifecycle.handle_signals()\n"
        "    print('up', flush=True)\n"
        "    await lifecycle.stopping.wait()\n"
        "    print('draining', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            said = _lines_until(process, "up")
            process.send_signal(number)
            said += _lines_until(process, "draining")
            process.send_signal(number)
            assert process.wait(20) == 128 + number
        finally:
            process.kill()
    assert said[-1] == "draining"


def _lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == last:
            return lines
    raise AssertionError(f"the process ended before it said {last!r}: {lines}")
