"""Commands that start without pydantic, which Typer imports to convert the value of any option.

Text needs no conversion, and a default has its type already. Typer converts everything else. If a
Typer converts in another way, commands work as before and start slower.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import typer
from typer.main import get_command


class _Conversion(Protocol):
    def coerce(self, value: object, param: object, ctx: object) -> object: ...


class _Parameter(Protocol):
    default: object
    multiple: bool
    nargs: int
    get_runtime_param: Callable[[], _Conversion]


class _Command(Protocol):
    def get_params(self, ctx: object) -> list[_Parameter]: ...

    def __call__(self) -> object: ...


def command(app: typer.Typer) -> Callable[[], object]:
    """The command line of `app`, ready to be run."""
    made = cast("_Command", get_command(app))
    _lighten(made)
    return made


def _lighten(made: _Command) -> None:
    for parameter in made.get_params(typer.Context(cast("Any", made))):  # with --help
        thorough = getattr(parameter, "get_runtime_param", None)
        if thorough is not None:
            parameter.get_runtime_param = _Light(parameter, thorough).itself
    below: Mapping[str, _Command] = getattr(made, "commands", {})
    for each in below.values():
        _lighten(each)


@dataclass(frozen=True, slots=True)
class _Light:
    parameter: _Parameter
    thorough: Callable[[], _Conversion]

    def itself(self) -> _Conversion:
        return self

    def coerce(self, value: object, param: object, ctx: object) -> object:
        several = getattr(self.parameter, "multiple", False) or self.parameter.nargs == -1
        if not several and (value is None or value == self.parameter.default or self._is_text()):
            return value
        if several and value is None:
            return ()
        return self.thorough().coerce(value, param=param, ctx=ctx)

    def _is_text(self) -> bool:
        descriptor = getattr(self.parameter, "type_descriptor", None)
        return getattr(descriptor, "annotation", None) is str
