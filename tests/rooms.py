"""Reads which module of a package imports which, and holds the imports to a table of rooms.

A room is a module or a folder of the package, or a library. Imports are read, never executed.
Imports inside functions and under `TYPE_CHECKING` count too: they show that a room knows another.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Table = Mapping[str, str]
"""Each room, and the rooms that it may import, with spaces between. A lower room stands below."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import: in `module` at `line`, of `target`. Both are full module names."""

    module: str
    line: int
    target: str


@dataclass(frozen=True)
class Package:
    """The package in the folder `root`."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @cached_property
    def modules(self) -> Mapping[str, Path]:
        """Each module's full name and file."""
        return {self._module(path): path for path in sorted(self.root.rglob("*.py"))}

    @cached_property
    def trees(self) -> Mapping[str, ast.Module]:
        return {name: ast.parse(path.read_text("utf-8")) for name, path in self.modules.items()}

    @cached_property
    def imports(self) -> Sequence[Import]:
        return [found for name, tree in self.trees.items() for found in self._imports(name, tree)]

    def imported_by(self, module: str) -> set[str]:
        """The modules of this package that `module` imports."""
        return {
            found.target
            for found in self.imports
            if found.module == module and found.target in self.modules
        }

    def place(self, module: str, line: int) -> str:
        return f"{self.modules[module].relative_to(self.root.parent)}:{line}"

    def _module(self, path: Path) -> str:
        parts = path.relative_to(self.root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _imports(self, module: str, tree: ast.Module) -> Iterator[Import]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(module, node.lineno, alias.name)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield Import(module, node.lineno, inner if inner in self.modules else base)

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        """The module after `from`, a relative one in full."""
        if not node.level:
            return node.module or ""
        here = module.split(".")
        above = node.level - (self.modules[module].name == "__init__.py")
        package = here[: len(here) - above]
        return ".".join([*package, node.module] if node.module else package)


def table_faults(package: Package, table: Table) -> list[str]:
    """Faults of the table: an arrow that points up, a module without a room, a room without one."""
    rooms = list(table)
    faults = []
    for height, (room, lower) in enumerate(table.items()):
        for other in lower.split():
            if other not in table:
                faults.append(f"{room} → {other}: the table has no row for {other}")
            elif rooms.index(other) <= height:
                faults.append(f"{room} → {other}: {other} does not stand below {room}")
    homeless = {m for m in package.modules if _room(m, package, table) is None}
    faults += [f"{module} is in no room of the table" for module in sorted(homeless)]
    seen = {*package.modules, *(each.target for each in package.imports)}
    used = {_room(module, package, table) for module in seen}
    faults += [
        f"{r}: no module is in this room, and none imports it" for r in table if r not in used
    ]
    return faults


def against(package: Package, table: Table) -> list[str]:
    """The imports that the table does not allow: file and line, from which room to which."""
    found = []
    for each in package.imports:
        room, other = (_room(name, package, table) for name in (each.module, each.target))
        if room is None or other is None or room == other or other in table[room].split():
            continue
        place = package.place(each.module, each.line)
        found.append(f"{place}: {room} → {other} (imports {each.target})")
    return found


def long_modules(package: Package, most: int) -> list[str]:
    """Modules of more than `most` lines."""
    lengths = {
        name: len(path.read_text("utf-8").splitlines()) for name, path in package.modules.items()
    }
    return [
        f"{package.place(name, 1)}: {length} lines"
        for name, length in lengths.items()
        if length > most
    ]


def long_functions(package: Package, most: int) -> list[str]:
    """Functions of more than `most` lines, from `def` to the last line of the body."""
    return [
        f"{package.place(name, node.lineno)}: {node.name} has {_length(node)} lines"
        for name, tree in package.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _length(node) > most
    ]


def modules_in_root(package: Package) -> list[str]:
    return sorted(path.name for path in package.root.glob("*.py"))


def _room(module: str, package: Package, table: Table) -> str | None:
    """The room with the longest name that holds `module`; None for a library without a row."""
    inside = module == package.name or module.startswith(f"{package.name}.")
    name = module.removeprefix(f"{package.name}.")
    while name not in table:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return None
    return name if inside or module.partition(".")[0] in table else None


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1
