"""Jinja's compiler, asked once for each text. Knows nothing of templates and services.

Copier compiles every file, name and question of a template anew at each render, which is most of its work. For the
services of a fleet these are the same texts again and again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType

from jinja2 import Environment

_REMEMBERED = 4096
"""Texts, the last ones: those of a dozen versions of a template."""


class _Dialect:
    """An environment as far as its compiler depends on it: what it was made with. Equal ones give the same code."""

    __slots__ = ("environment", "settings")

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.settings = (
            type(environment),
            environment.block_start_string,
            environment.block_end_string,
            environment.variable_start_string,
            environment.variable_end_string,
            environment.comment_start_string,
            environment.comment_end_string,
            environment.line_statement_prefix,
            environment.line_comment_prefix,
            environment.trim_blocks,
            environment.lstrip_blocks,
            environment.newline_sequence,
            environment.keep_trailing_newline,
            environment.optimized,
            environment.undefined,
            environment.finalize,
            environment.autoescape,
            environment.is_async,
            tuple(sorted(environment.extensions)),
        )

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
    """As Environment.compile; what gives code for later use is looked up."""
    if raw or defer_init or not isinstance(source, str):
        return _compile(self, source, name, filename, raw, defer_init)  # type: ignore[call-overload,no-any-return] # its overloads want literals
    return _compiled(_Dialect(self), source, name, filename)


@contextmanager
def compiled_once() -> Iterator[None]:
    """While this holds, nothing is compiled twice. Copier makes its environments where nobody else can reach them."""
    Environment.compile = _compile_once  # type: ignore[method-assign,assignment] # the same for all that Copier asks
    try:
        yield
    finally:
        Environment.compile = _compile  # type: ignore[method-assign] # it is put back
