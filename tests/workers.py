"""How a test run is spread over processes: how many, which tests keep together, which begin first.

Knows names of tests; knows nothing of what the tests are about.
"""

import os
from pathlib import Path

import pytest

WORKERS_PER_CORE = 3
"""Most tests wait for a server or a process most of the time."""

_APART = (
    "tests/chaos/",
    "tests/e2e/",
    "tests/generator/fleet/",
    "tests/generator/test_demo.py",
    "tests/laws/",
    "tests/monitoring/test_live.py",
    "tests/monitoring/test_rules.py",
    "tests/regressions/",
    "tests/template/test_answers.py",
    "tests/template/test_compose.py",
    "tests/template/test_pipelines.py",
    "tests/template/test_render.py",
    "tests/template/test_rendered_service.py::test_a_render",
    "tests/template/test_rendered_service.py::test_any_target",
    "tests/template/test_update.py",
)
"""These tests share nothing that is worth keeping together: each goes to the next free worker."""

_FIRST = (
    "tests/image/",
    "tests/generator/fleet/test_fleet_interrupted.py",
    "tests/monitoring/test_live.py::test_alerts",
    "tests/chaos/test_poison_that_kills.py",
    "tests/chaos/test_chaos.py",
    "tests/laws/",
    "tests/chassis/bus/",
    "tests/chaos/",
    "tests/template/test_rendered_service.py",
    "tests/e2e/",
    "tests/chassis/inbox/",
    "tests/chassis/handling/",
    "tests/template/",
    "tests/generator/",
)
"""The longest come first, so that no worker is left alone with one of them at the end."""


def number(config: pytest.Config) -> int:
    """The workers of `-n auto`: one a core for a few files, more for whole folders."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    part = config.option.keyword or not all(Path(given).is_dir() for given in config.args)
    return (cores or 1) * (1 if part else WORKERS_PER_CORE)


def unit(test: str) -> str:
    """The unit that the test with this node id must stay in: its module, or the test alone."""
    return test if test.startswith(_APART) else test.partition("::")[0]


def place(test: str) -> int:
    """Where the test with this node id comes in a run: the lowest first."""
    return next((i for i, start in enumerate(_FIRST) if test.startswith(start)), len(_FIRST))
