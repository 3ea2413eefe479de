"""Event types and versions, and the protobuf messages behind them.

An event's type is the protobuf full name of its body; the version is the package's suffix (`acme.signup.v1`).
"""

import importlib
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError, Message

from chassis import bus
from chassis.envelope import Envelope

__all__ = ["ContractError", "DecodeError", "Message"]

_VERSION = re.compile(r"^(?P<package>.+)\.v(?P<number>\d+)(?P<stage>(?:alpha|beta)\d+)?\.(?P<name>[^.]+)$")


class ContractError(Exception):
    """An event type is not known, or a body does not fit it; the message says what is known."""


def require_fast_protobuf() -> None:
    """Raises ContractError on the pure-Python protobuf runtime, which is about 46 times slower."""
    if api_implementation.Type() != "upb":
        raise ContractError(
            f"protobuf runs on its {api_implementation.Type()!r} implementation, which is far too slow: "
            "install a protobuf wheel for this platform and unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
        )


def event_type(message: type[Message] | Message) -> str:
    """The event type of a message class: its protobuf full name."""
    return str(message.DESCRIPTOR.full_name)


def unknown_type_reason(type_: str, known: frozenset[str]) -> str:
    """`unsupported_version` when `type_` is another version of a type in `known`, else `unknown_type`."""
    match = _VERSION.match(type_)
    if match is None:
        return "unknown_type"
    stem = (match["package"], match["name"])
    for other in known:
        known_match = _VERSION.match(other)
        if known_match is not None and stem == (known_match["package"], known_match["name"]):
            return "unsupported_version"
    return "unknown_type"


def to_event(message: Message, *, source: str, id_: str | None = None, time: datetime | None = None) -> bus.Message:
    """The message as an event from `source`; a random id and the present time unless given."""
    envelope = Envelope(
        id=id_ if id_ is not None else uuid4().hex,
        source=source,
        type=event_type(message),
        time=time or datetime.now(UTC),
    )
    return bus.Message(envelope, message.SerializeToString())


def load_contracts(near: type[Message]) -> None:
    """Import every generated module beside the one of `near`, so that all contracts of the service are known."""
    module = sys.modules[near.__module__]
    if module.__file__ is None:
        return
    depth = len(Path(near.DESCRIPTOR.file.name).parts)
    root = Path(module.__file__).parents[depth - 1]
    for path in sorted(root.rglob("*_pb2.py")):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


def message_class(type_: str) -> type[Message]:
    """The class of an event type. Raises ContractError when no contract defines it."""
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(type_)
    except KeyError:
        raise ContractError(
            f"{type_!r} is not a type of this service's contracts; run `make contracts` if its .proto file is new"
        ) from None
    return message_factory.GetMessageClass(descriptor)


def find_message(name: str) -> type[Message]:
    """The class whose type ends with `.name`, among the modules imported so far. Raises ContractError."""
    found = {
        candidate
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").endswith("_pb2")
        for candidate in vars(module).values()
        if isinstance(candidate, type) and issubclass(candidate, Message) and candidate.__name__ == name
    }
    if len(found) == 1:
        return found.pop()
    if not found:
        raise ContractError(f"no contract defines a message {name}; give the full type, such as acme.signup.v1.{name}")
    raise ContractError(f"{name} is one of {', '.join(sorted(map(event_type, found)))}: give the full type")


def from_json(type_: str, text: str) -> Message:
    """A message of `type_` from JSON in protobuf's JSON mapping. Raises ContractError."""
    message = message_class(type_)()
    try:
        return json_format.Parse(text, message)
    except json_format.ParseError as error:
        raise ContractError(f"not JSON for {type_}: {' '.join(str(error).split())}") from None


def to_json(type_: str, body: bytes) -> str:
    """`body` in protobuf's JSON mapping. Raises ContractError when it cannot be decoded."""
    try:
        message = message_class(type_).FromString(body)
    except DecodeError as error:
        raise ContractError(f"not a {type_}: {error}") from None
    return str(json_format.MessageToJson(message, indent=2, preserving_proto_field_name=True))
