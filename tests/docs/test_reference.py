"""The reference says what the code says, and notices when it does not."""

import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from chassis.telemetry.metrics import COUNTED_REASONS

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "docs" / "reference.py"


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, at work on copies of the pages."""
    spec = spec_from_file_location("reference", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copytree(module.PAGES, tmp_path / "docs" / "reference")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "PAGES", tmp_path / "docs" / "reference")
    return module


def run(reference: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["reference.py", *arguments])
    return int(reference.main())


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.reference", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_table_is_on_a_page(reference: ModuleType) -> None:
    pages = "".join(page.read_text("utf-8") for page in reference.PAGES.glob("*.md"))
    assert [name for name in reference.REGIONS if f"<!-- begin {name} -->" not in pages] == []


def test_a_changed_default_makes_its_page_stale(
    reference: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = reference.PAGES / "settings.md"
    page.write_text(page.read_text("utf-8").replace("`8080`", "`9090`"), "utf-8")
    assert run(reference, monkeypatch, "--check") == 1
    assert (
        "docs/reference/settings.md is not what the code says: run `make docs`"
        in capsys.readouterr().err
    )
    assert run(reference, monkeypatch) == 0
    assert run(reference, monkeypatch, "--check") == 0


def test_a_setting_that_the_chart_does_not_know_makes_its_schema_stale(
    reference: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    schema = tmp_path / "values.schema.json"
    known = reference.SCHEMA.read_text("utf-8")
    schema.write_text(known.replace('        "CHASSIS_PREFETCH",\n', ""), "utf-8")
    monkeypatch.setattr(reference, "SCHEMA", schema)
    assert run(reference, monkeypatch, "--check") == 1
    assert (
        "values.schema.json is not what the code says: run `make docs`" in capsys.readouterr().err
    )
    assert run(reference, monkeypatch) == 0
    assert schema.read_text("utf-8") == known


@pytest.mark.parametrize("table", ["REASONS", "ATTRIBUTES", "FAILURE"])
def test_a_meaning_of_something_that_is_gone_is_told(
    reference: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: str,
) -> None:
    monkeypatch.setitem(getattr(reference, table), "moonlight", "It was too bright.")
    assert run(reference, monkeypatch, "--check") == 1
    assert "moonlight" in capsys.readouterr().err


def test_a_reason_without_a_meaning_is_told(
    reference: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(reference.REASONS, "rejected")
    assert run(reference, monkeypatch, "--check") == 1
    assert "rejected" in capsys.readouterr().err


def test_every_reason_for_which_the_service_gives_up_is_a_series_from_the_start(
    reference: ModuleType,
) -> None:
    counted_by_the_broker = {"crash_loop"}
    assert set(COUNTED_REASONS) == reference.REASONS.keys() - counted_by_the_broker
