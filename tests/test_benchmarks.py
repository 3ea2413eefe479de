"""The benchmarks run: runs in small, whose figures say nothing."""

import sys

import pytest
from benchmarks import rules, throughput


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


def test_the_benchmark_of_the_rules_counts_what_prometheus_evaluates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--services", "2", "--seconds", "1", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["rules", *arguments])

    rules.main()

    printed = capsys.readouterr().out
    assert "rules of the platform and of 2 services" in printed
    assert "a round: " in printed
