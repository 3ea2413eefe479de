"""A contract that is gone is named by the module that is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from chassis.cli.imports import missing


@pytest.mark.parametrize(
    "source",
    [
        "from acme.gone.v1.it_went_pb2 import ItWent",
        "from acme.gone.v1 import it_went_pb2",
        "import acme.gone.v1.it_went_pb2",
        "def late() -> None:\n    import acme.gone.v1.it_went_pb2 as gone",
    ],
)
def test_an_import_of_a_contract_that_is_gone_is_named(tmp_path: Path, source: str) -> None:
    (tmp_path / "handlers.py").write_text(source)
    (sentence,) = missing([tmp_path])
    line = source.count("\n") + 1
    assert f"handlers.py:{line}: there is no module acme.gone.v1.it_went_pb2: " in sentence


def test_imports_that_lead_somewhere_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(
        "from acme.billing.v1.account_opened_pb2 import AccountOpened\n"
        "from google.protobuf import timestamp_pb2\n"
        "from .local_pb2 import Local\n"
    )
    assert not list(missing([tmp_path]))


def test_the_program_ends_with_1_if_one_is_missing(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("import gone_pb2")
    program = [sys.executable, "-m", "chassis.cli.imports", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no module gone_pb2" in done.stderr
