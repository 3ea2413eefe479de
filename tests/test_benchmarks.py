"""The benchmark of throughput runs: a run in small, whose figures say nothing."""

import sys

import pytest
from benchmarks import throughput


def test_the_benchmark_of_throughput_compares_the_service_with_its_yardsticks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["throughput", "--bus", "nats", "--events", "50", "--rounds", "1"]
    )

    throughput.main()

    printed = capsys.readouterr().out
    for contender in ("dockyard", *throughput.YARDSTICKS):
        assert f"{contender} (" in printed
