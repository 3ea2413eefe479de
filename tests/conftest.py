"""Contracts, template and render that all tests share; workers; how much hypothesis tries.

Its examples are the same in every run, unless somebody searches for new ones:

    make test ARGS="--hypothesis-profile=search -k fuzz"
"""

import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings

from tests import workers
from tests.brokers.rabbitmq import stop_shared_rabbitmq
from tests.contracts import compile_into
from tests.once import made_once
from tests.template import lab

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile("repeatable")

CONTRACTS = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: they import the generated code."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's job in the background ignores Ctrl-C, and so would all that the tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.add_cleanup(stop_shared_rabbitmq)
    folder = getattr(config, "workerinput", {}).get("contracts")
    if folder is None:
        made = TemporaryDirectory(prefix="contracts-")
        config.add_cleanup(made.cleanup)
        folder = made.name
        compile_into(Path(folder))
    config.stash[CONTRACTS] = folder
    sys.path.insert(0, folder)
    config.add_cleanup(lambda: sys.path.remove(folder))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Workers import what the first process has compiled."""
    node.workerinput["contracts"] = node.config.stash[CONTRACTS]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return workers.number(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from tests.scheduling import Scheduling  # noqa: PLC0415 - only a run with workers has xdist

    config.option.loadscopereorder = False  # keep the order of the collection
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: workers.place(item.nodeid))


@pytest.fixture(scope="session")
def generated_contracts(pytestconfig: pytest.Config) -> Path:
    """The folder of the generated code, for a process that needs it on its path."""
    return Path(pytestconfig.stash[CONTRACTS])


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def template(run_folder: Path) -> Path:
    """The working tree's template, as a repository with one commit. No test writes to it."""

    def make(folder: Path) -> None:
        lab.lay_down_template(folder)
        lab.commit_all(folder, "the template of the working tree")

    return made_once(run_folder / "template", make)


@pytest.fixture(scope="session")
def rendered(template: Path, run_folder: Path) -> Path:
    """A committed service with default answers. No test writes to it."""

    def make(folder: Path) -> None:
        lab.copy(template, folder / "billing-svc", service_name="billing-svc")

    return made_once(run_folder / "rendered", make) / "billing-svc"
