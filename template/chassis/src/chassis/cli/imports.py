"""`python -m chassis.cli.imports src tests`: imports of generated contracts that lead nowhere.

mypy takes a module that is gone from gen/ for one without types, and asks for library stubs.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from chassis.cli.output import say


def missing(folders: Sequence[Path]) -> Iterator[str]:
    """A sentence for each import of a `…_pb2` module that does not exist."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            for line, module in _generated(ast.parse(path.read_bytes(), path)):
                if not _exists(module):
                    yield (
                        f"{path}:{line}: there is no module {module}: "
                        "no file in contracts/ makes it, or `make contracts` has not run since"
                    )


def _generated(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and name of each generated module that `tree` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.endswith("_pb2"))


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor its package
        return False


if __name__ == "__main__":
    found = list(missing([Path(folder) for folder in sys.argv[1:]]))
    for sentence in found:
        say(sentence, err=True)
    sys.exit(bool(found))
