"""The rooms of the chassis and of the generator: which may import which, and how large they get.

The tables read from top to bottom. A room may import the rooms in its row, and all of them stand
below it. An import against the table is a defect of the import, unless the design has changed.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.rooms import (
    Package,
    Table,
    against,
    long_functions,
    long_modules,
    modules_in_root,
    table_faults,
)

ROOT = Path(__file__).parents[1]

# The registry `adapters` finds an adapter by its name, so its row names none of them. Every adapter
# is a room of its own: no other adapter, and nothing that handles events, may import it. `psycopg`
# above the adapters is the type of the connection that a handler gets, nothing more.
CHASSIS: Table = {
    "cli": "tools replica service adapters deadletters processes publishing inbox processes.store"
    " bus contracts settings telemetry urls reasons",
    "testing": "replica service batches schedule publishing processes.memory processes bus.memory"
    " inbox.memory inbox.telling inbox.postgres inbox processes.store bus contracts settings"
    " telemetry",
    "tools": "replica service publishing bus contracts settings telemetry urls psycopg",
    "chassis": "replica service batches processes schedule context retry unavailable",
    "replica": "service registration policy batches context adapters processes schedule handling"
    " publishing"
    " inbox.unclaimed inbox processes.store bus contracts retry backoff cancellation settings urls"
    " telemetry",
    "service": "registration policy batches processes schedule publishing context contracts bus",
    "registration": "processes schedule policy contracts bus",
    "batches": "handling context retry telemetry psycopg",
    "processes": "context processes.store inbox contracts retry backoff telemetry psycopg",
    "schedule": "context publishing inbox bus contracts retry backoff telemetry cronsim",
    "handling": "context publishing inbox bus contracts retry backoff telemetry reasons psycopg",
    "deadletters": "bus",
    "adapters": "settings processes.store inbox bus",
    "publishing": "context inbox bus contracts retry telemetry psycopg",
    "context": "contracts retry psycopg",
    "bus.memory": "bus contracts",
    "bus.nats": "jetstream bus contracts telemetry backoff nats",
    "bus.rabbitmq": "bus contracts telemetry urls backoff cancellation aiormq pamqp",
    "inbox.memory": "inbox",
    "inbox.nats_kv": "jetstream inbox backoff nats",
    "processes.memory": "processes.store psycopg",
    "processes.nats_kv": "processes.store jetstream inbox psycopg",
    "processes.redis": "processes.store inbox redis_client redis psycopg",
    "inbox.postgres": "processes.store inbox contracts retry backoff psycopg psycopg_pool",
    "inbox.redis": "inbox backoff redis_client redis",
    "redis_client": "urls redis",
    "inbox.unclaimed": "inbox",
    "inbox.telling": "inbox contracts",
    "jetstream": "telemetry urls backoff cancellation nats",
    "processes.store": "contracts psycopg",
    "inbox": "contracts psycopg unavailable",
    "bus": "contracts unavailable",
    "calls": "telemetry",
    "telemetry": "reasons",
    "contracts": "reasons",
    "settings": "urls",
    "urls": "",
    "retry": "backoff reasons",
    "policy": "",
    "backoff": "",
    "unavailable": "",
    "cancellation": "",
    "reasons": "",
    # Libraries
    "aiormq": "",
    "cronsim": "",
    "nats": "",
    "pamqp": "",
    "psycopg": "",
    "psycopg_pool": "",
    "redis": "",
}

GENERATOR: Table = {
    "__main__": "cli",
    "cli": "demo fleet servers output adopting show record new commands answers rendering errors",
    "demo": "new rendering programs origin errors",
    "servers": "output origin errors",
    "fleet": "fleet.apis output answers record commands pages service updating rendering programs"
    " errors",
    "fleet.apis": "programs errors",
    "show": "record commands adopting updating rendering programs",
    "record": "commands adopting service updating rendering programs",
    "commands": "adopting service updating rendering programs errors",
    "adopting": "service updating rendering answers programs errors",
    "new": "rendering programs errors",
    "updating": "service rendering answers programs errors",
    "service": "answers programs errors",
    "rendering": "answers programs origin errors",
    "output": "",
    "answers": "errors",
    "programs": "errors",
    "pages": "",
    "origin": "",
    "errors": "",
    "dockyard": "",
}

PACKAGES = {
    "chassis": (Package(ROOT / "template/chassis/src/chassis"), CHASSIS),
    "dockyard": (Package(ROOT / "generator/dockyard"), GENERATOR),
}

packages = pytest.mark.parametrize(("package", "table"), PACKAGES.values(), ids=PACKAGES)


def none_of(faults: Sequence[str]) -> None:
    """Fails with one line for each fault, where pytest would cut the list."""
    assert not faults, "\n" + "\n".join(faults)


@packages
def test_every_room_imports_only_what_its_row_allows(package: Package, table: Table) -> None:
    none_of(against(package, table))


@packages
def test_every_arrow_points_down(package: Package, table: Table) -> None:
    none_of(table_faults(package, table))


@packages
def test_a_module_fits_in_the_head(package: Package, table: Table) -> None:
    none_of(long_modules(package, most=350))


@packages
def test_a_function_fits_on_a_screen(package: Package, table: Table) -> None:
    none_of(long_functions(package, most=60))


@pytest.mark.parametrize(("name", "most"), [("chassis", 16), ("dockyard", 12)])
def test_the_root_reads_like_a_table_of_contents(name: str, most: int) -> None:
    found = modules_in_root(PACKAGES[name][0])
    assert len(found) <= most, found


def test_the_consumer_knows_few_modules() -> None:
    found = PACKAGES["chassis"][0].imported_by("chassis.handling.consumer")
    assert len(found) <= 12, sorted(found)


# The checker, on packages that are made up.

HOUSE: Table = {"top": "ports.red ports", "ports.red": "ports", "ports.blue": "ports", "ports": ""}


def built(folder: Path, **files: str) -> Package:
    """The package `house` with the rooms of HOUSE. `files` give the source of a room."""
    paths = {
        "": "__init__.py",
        "top": "top.py",
        "ports": "ports/__init__.py",
        "ports_red": "ports/red.py",
        "ports_blue": "ports/blue/__init__.py",
    }
    for room, path in paths.items():
        (folder / "house" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "house" / path).write_text(files.get(room, ""))
    return Package(folder / "house")


HOUSE_WITH_ROOT: Table = {"house": "", **HOUSE}


@pytest.mark.parametrize(
    "source",
    [
        "import house.ports.blue",
        "from house.ports import blue",
        "from house.ports.blue import name",
        "from .ports import blue",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING: from house.ports import blue",
        "\ndef inside() -> None: import house.ports.blue",
    ],
)
def test_an_import_against_the_table_is_named_however_it_is_written(
    tmp_path: Path, source: str
) -> None:
    line = source.count("\n") + 1
    assert against(built(tmp_path, top=source), HOUSE_WITH_ROOT) == [
        f"house/top.py:{line}: top → ports.blue (imports house.ports.blue)"
    ]


@pytest.mark.parametrize(
    "source", ["from .. import red", "from ..red import name", "from house.ports import red"]
)
def test_an_adapter_that_imports_another_is_named(tmp_path: Path, source: str) -> None:
    assert against(built(tmp_path, ports_blue=source), HOUSE_WITH_ROOT) == [
        "house/ports/blue/__init__.py:1: ports.blue → ports.red (imports house.ports.red)"
    ]


def test_an_import_of_a_library_is_held_to_the_table_if_the_table_names_it(tmp_path: Path) -> None:
    house = built(tmp_path, top="import json\nimport redis.asyncio")
    assert against(house, {**HOUSE_WITH_ROOT, "redis": ""}) == [
        "house/top.py:2: top → redis (imports redis.asyncio)"
    ]


def test_imports_that_the_table_allows_are_no_fault(tmp_path: Path) -> None:
    house = built(tmp_path, top="import house.ports\nfrom house.ports import red, name")
    assert against(house, HOUSE_WITH_ROOT) == []
    assert table_faults(house, HOUSE_WITH_ROOT) == []
    assert house.imported_by("house.top") == {"house.ports", "house.ports.red"}


def test_an_arrow_up_or_to_nowhere_and_a_room_without_a_row_are_faults(tmp_path: Path) -> None:
    table = {"house": "cellar", "ports": "top", "top": "top", "shed": ""}
    house = built(tmp_path)
    (house.root / "attic.py").write_text("")
    assert table_faults(house, table) == [
        "house → cellar: the table has no row for cellar",
        "top → top: top does not stand below top",
        "house.attic is in no room of the table",
        "shed: no module is in this room, and none imports it",
    ]
    assert table_faults(house, {**HOUSE_WITH_ROOT, "attic": "top"}) == [
        "attic → top: top does not stand below attic"
    ]


def test_a_long_module_and_a_long_function_are_named(tmp_path: Path) -> None:
    house = built(tmp_path, top="async def long() -> None:\n    a = 1\n    return a\n")
    assert long_modules(house, most=2) == ["house/top.py:1: 3 lines"]
    assert long_functions(house, most=2) == ["house/top.py:1: long has 3 lines"]
    assert long_modules(house, most=3) == long_functions(house, most=3) == []
