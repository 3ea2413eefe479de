"""The contracts that tests publish and consume. Each test session compiles them."""

from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

FOLDER = Path(__file__).parent


def compile_into(folder: Path) -> None:
    """Generate contracts' Python code into `folder`. Raises RuntimeError if protoc fails."""
    sources = sorted(str(path) for path in FOLDER.rglob("*.proto"))
    well_known = files("grpc_tools") / "_proto"
    if (
        protoc.main(
            ["protoc", f"-I{FOLDER}", f"-I{well_known}", f"--python_out={folder}", *sources]
        )
        != 0
    ):
        raise RuntimeError(f"protoc refused the contracts in {FOLDER}; it said why on stderr")
