"""Jinja's compiler, asked once for each text. Knows nothing of templates and services.

At each render Copier compiles every file, name and question of a template anew, which is most of
its work. For the services of a fleet these are the same texts again and again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType

from jinja2 import Environment

_REMEMBERED = 4096
"""How many texts: those of a dozen versions of a template."""

SETTINGS = (
    "block_start_string",
    "block_end_string",
    "variable_start_string",
    "variable_end_string",
    "comment_start_string",
    "comment_end_string",
    "line_statement_prefix",
    "line_comment_prefix",
    "trim_blocks",
    "lstrip_blocks",
    "newline_sequence",
    "keep_trailing_newline",
    "optimized",
    "undefined",
    "finalize",
    "autoescape",
    "is_async",
    "extensions",
)
"""What an environment is made with and its compiler heeds. A test compares it with Jinja's own."""


class _Dialect:
    """An environment, as far as its compiler depends on it. Equal dialects give the same code."""

    __slots__ = ("environment", "settings")

    def __init__(self, environment: Environment) -> None:
        said = {name: getattr(environment, name) for name in SETTINGS}
        said["extensions"] = tuple(sorted(environment.extensions))
        self.environment = environment
        self.settings = (type(environment), *said.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Dialect) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(self.settings)


_compile = Environment.compile


@lru_cache(maxsize=_REMEMBERED)
def _compiled(dialect: _Dialect, source: str, name: str | None, filename: str | None) -> CodeType:
    return _compile(dialect.environment, source, name, filename)


def _compile_once(  # noqa: PLR0917 - as Jinja has it
    self: Environment,
    source: str,
    name: str | None = None,
    filename: str | None = None,
    raw: bool = False,
    defer_init: bool = False,
) -> CodeType | str:
    """As Environment.compile, but code for later use is looked up."""
    if raw or defer_init or not isinstance(source, str):
        return _compile(self, source, name, filename, raw, defer_init)  # type: ignore[call-overload,no-any-return] # its overloads want literals
    return _compiled(_Dialect(self), source, name, filename)


@contextmanager
def compiled_once() -> Iterator[None]:
    """Within this, nothing is compiled twice. Copier makes its environments out of our reach."""
    Environment.compile = _compile_once  # type: ignore[method-assign,assignment] # the same for all that Copier asks
    try:
        yield
    finally:
        Environment.compile = _compile  # type: ignore[method-assign] # it is put back
