"""Fixtures: a chart for each combination of bus and inbox, rendered once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip(
    "helm_python",
    reason="Helm as a library is not published for this platform",
    exc_type=ImportError,
)

from tests.once import made_once
from tests.template.chart.charts import Chart, render_service


@pytest.fixture(scope="session")
def chart_of(template_without_chassis: Path, run_folder: Path) -> Callable[[str, str], Chart]:
    """The chart of a service with this bus and inbox. Never written to by a test."""

    @cache
    def rendered(bus: str, inbox: str) -> Chart:
        def make(folder: Path) -> None:
            render_service(
                template_without_chassis,
                folder / "billing-svc",
                service_name="billing-svc",
                owner="team-payments",
                bus=bus,
                inbox=inbox,
            )

        return Chart(made_once(run_folder / f"chart-{bus}-{inbox}", make) / "billing-svc")

    return rendered


@pytest.fixture
def chart(chart_of: Callable[[str, str], Chart]) -> Chart:
    """On RabbitMQ with Redis."""
    return chart_of("rabbitmq", "redis")


@pytest.fixture
def nats_chart(chart_of: Callable[[str, str], Chart]) -> Chart:
    """On NATS, which keeps the inbox too."""
    return chart_of("nats", "nats-kv")


@pytest.fixture
def postgres_chart(chart_of: Callable[[str, str], Chart]) -> Chart:
    """On RabbitMQ with PostgreSQL: with a relay and a migration."""
    return chart_of("rabbitmq", "postgres")
