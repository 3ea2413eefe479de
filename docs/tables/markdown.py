"""Markdown of the reference: tables, the options of a command, types in words.

Knows the shape of what it is given; knows no page and no meaning.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    for cells in (head, ["---"] * len(head), *rows):
        yield (
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
        )


def commands(app: typer.Typer, name: str) -> Iterator[str]:
    """A section for each command of `app`, which a user calls `name`: usage, help, parameters."""
    for path, command in _leaves(typer.main.get_command(app), name):
        parameters = [parameter for parameter in command.params if not parameter.hidden]
        arguments = [
            each.metavar or each.name.upper()
            for each in parameters
            if each.param_type_name == "argument"
        ]
        usage = " ".join(
            (path, *arguments, *(["[OPTIONS]"] if len(parameters) > len(arguments) else []))
        )
        yield from ("", f"### `{usage}`", "", str(command.help))
        if parameters:
            yield ""
            yield from table(("", "Default", "Meaning"), map(_parameter, parameters))


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from _leaves(below, f"{path} {name}")


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        shown = parameter.metavar or parameter.name.upper()
        return f"`{shown}`", "", parameter.help
    flag = parameter.is_flag
    value = "" if flag else f" {parameter.metavar or parameter.name.strip('_').upper()}"
    default = "" if flag or parameter.default is None else f"`{parameter.default}`"
    return f"`{', '.join(parameter.opts)}{value}`", default, parameter.help


def json_type(schema: Mapping[str, Any]) -> str:
    """The type of a field, in words."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "items" in schema:
        return f"list of {json_type(schema['items'])}"
    if "const" in schema or "enum" in schema:
        return ", ".join(
            f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")])
        )
    kinds = schema.get("type", "any")
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)


def labels(samples: Sequence[Any]) -> str:
    """Names of the labels. A label with several values lists them."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for sample in samples:
        for name, value in sample.labels.items():
            if name != "le" and value not in values[name]:
                values[name].append(value)
    return "; ".join(
        f"`{name}`" + (f": {', '.join(found)}" if len(found) > 1 else "")
        for name, found in sorted(values.items())
    )


def choices(given: Mapping[str, str] | Sequence[str]) -> str:
    """The values that a question of the template allows."""
    values = given.values() if isinstance(given, Mapping) else given
    return ", ".join(f"`{value}`" for value in values)
