"""The how-to of processes: its contract, its steps and its tests, run as a reader would."""

import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PAGE = Path(__file__).parents[3] / "docs/how-to/run-a-process.md"


def blocks(language: str) -> list[str]:
    block = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return block.findall(PAGE.read_text("utf-8"))


def test_its_blocks_are_a_service_whose_tests_pass(tmp_path: Path) -> None:
    (contract,) = blocks("proto")
    folder = tmp_path / "acme/orders/v1"
    folder.mkdir(parents=True)
    (folder / "orders.proto").write_text(contract)
    well_known = files("grpc_tools") / "_proto"
    arguments = [f"-I{tmp_path}", f"-I{well_known}", f"--python_out={tmp_path}"]
    assert protoc.main(["protoc", *arguments, str(folder / "orders.proto")]) == 0
    steps, tests = blocks("python")
    (tmp_path / "test_orders.py").write_text(steps + tests)
    chassis = Path(sys.modules["chassis"].__file__ or "").parents[1]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{chassis}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
