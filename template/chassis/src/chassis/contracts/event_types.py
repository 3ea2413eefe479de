"""Event types and versions, and the protobuf messages behind them.

An event's type is the protobuf full name of its body. Its version is the package's suffix
(`acme.signup.v1`).
"""

import importlib
import re
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError, Message

from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.contracts.json_body import BadJson, parse_json
from chassis.reasons import Reason

__all__ = ["ContractError", "DecodeError", "Message"]

_VERSION = re.compile(
    r"^(?P<package>.+)\.v(?P<number>\d+)((?P<stage>alpha|beta)(?P<stage_number>\d*))?\.(?P<name>[^.]+)$"
)
_STAGES = ("alpha", "beta", None)


class ContractError(Exception):
    """An event type is not known, or a body does not fit it; the message says what is known."""


class NotAnEvent(TypeError):
    """What is to be published is no message of a contract."""


def require_fast_protobuf() -> None:
    """Raises ContractError on the pure-Python protobuf runtime, which is about 46 times slower."""
    if api_implementation.Type() != "upb":
        raise ContractError(
            f"protobuf runs on its {api_implementation.Type()!r} implementation, which is far too "
            "slow: install a protobuf wheel for this platform and unset "
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
        )


def event_type(message: type[Message] | Message) -> str:
    """The event type of a message class: its protobuf full name."""
    return str(message.DESCRIPTOR.full_name)


@cache
def event_without_version(type_: str) -> str:
    """The name that all versions of an event share.

    `acme.signup.v2.UserSignedUp` is an `acme.signup.UserSignedUp`.
    """
    event, _ = _versioned(type_)
    return type_ if event is None else ".".join(event)


def is_newer(type_: str, *, than: str) -> bool:
    """True if both are versions of one event and `type_` is the later one.

    v1alpha1 < v1beta1 < v1 < v2.
    """
    return _ages(than, frozenset({type_})) == [True]


def unknown_type_reason(type_: str, known: frozenset[str]) -> Reason:
    """Why no handler takes `type_`, in one word.

    `outdated_version`: all versions of it in `known` are newer. `unsupported_version`: one of them
    is older. `unknown_type`: there is none.
    """
    newer = _ages(type_, known)
    if not newer:
        return "unknown_type"
    if all(newer):
        return "outdated_version"
    return "unsupported_version"


def _ages(type_: str, others: frozenset[str]) -> list[bool]:
    """For each version of the event `type_` among `others`, whether it is newer."""
    event, version = _versioned(type_)
    if event is None:
        return []
    return [
        its_version > version
        for its_event, its_version in map(_versioned, others)
        if its_event == event
    ]


def _versioned(type_: str) -> tuple[tuple[str, str] | None, tuple[int, int, int]]:
    """Package and name of the event without its version, and the version in its order.

    None for an event type without a version.
    """
    match = _VERSION.match(type_)
    if match is None:
        return None, (0, 0, 0)
    version = (int(match["number"]), _STAGES.index(match["stage"]), int(match["stage_number"] or 0))
    return (match["package"], match["name"]), version


def to_event(
    message: Message, *, source: str, id_: str | None = None, time: datetime | None = None
) -> EncodedEvent:
    """The message as an event from `source`; a random id and the present time unless given.

    Raises NotAnEvent.
    """
    if not isinstance(message, Message):
        raise NotAnEvent(
            f"{type(message).__qualname__} is no message of a contract: publish an object of a "
            "class that `make contracts` generated"
        )
    envelope = Envelope(
        id=id_ if id_ is not None else uuid4().hex,
        source=source,
        type=event_type(message),
        time=time or datetime.now(UTC),
    )
    return EncodedEvent(envelope, message.SerializeToString())


def load_contracts(near: type[Message]) -> None:
    """Import every generated module beside the module of `near`.

    All contracts of the service are known afterwards.
    """
    module = sys.modules[near.__module__]
    if module.__file__ is None:
        return
    depth = len(Path(near.DESCRIPTOR.file.name).parts)
    root = Path(module.__file__).parents[depth - 1]
    for path in sorted(root.rglob("*_pb2.py")):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


def load_package(type_: str) -> bool:
    """Import the generated modules of the package of `type_`.

    False if there is no such package.
    """
    package = type_.rpartition(".")[0]
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return False
    folders = [] if spec is None else spec.submodule_search_locations or []
    modules = [path.stem for folder in folders for path in sorted(Path(folder).glob("*_pb2.py"))]
    for module in modules:
        importlib.import_module(f"{package}.{module}")
    return bool(modules)


def message_class(type_: str) -> type[Message]:
    """The class of an event type. Raises ContractError when no contract defines it."""
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(type_)
    except KeyError:
        raise ContractError(
            f"{type_!r} is not a type of this service's contracts; "
            "run `make contracts` if its .proto file is new"
        ) from None
    return message_factory.GetMessageClass(descriptor)


def find_message(name: str) -> type[Message]:
    """The class whose type ends with `.name`, among the modules imported so far.

    Raises ContractError.
    """
    found = {
        candidate
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").endswith("_pb2")
        for candidate in vars(module).values()
        if isinstance(candidate, type)
        and issubclass(candidate, Message)
        and candidate.__name__ == name
    }
    if len(found) == 1:
        return found.pop()
    if not found:
        raise ContractError(
            f"no contract defines a message {name}; "
            f"give the full type, such as acme.signup.v1.{name}"
        )
    raise ContractError(
        f"{name} is one of {', '.join(sorted(map(event_type, found)))}: give the full type"
    )


def from_json(type_: str, text: str) -> Message:
    """A message of `type_` from JSON in protobuf's JSON mapping. Raises ContractError."""
    message = message_class(type_)()
    try:
        return json_format.Parse(text, message)
    except json_format.ParseError as error:
        raise ContractError(f"not JSON for {type_}: {' '.join(str(error).split())}") from None


def to_json(type_: str, body: bytes, *, json: bool = False) -> str:
    """`body` in protobuf's JSON mapping; `json` says that it is already, in any form of it.

    Raises ContractError when it cannot be decoded.
    """
    try:
        message = message_class(type_)
        event = parse_json(message, body) if json else message.FromString(body)
    except (DecodeError, BadJson) as error:
        raise ContractError(f"not a {type_}: {error}") from None
    try:
        return str(json_format.MessageToJson(event, indent=2, preserving_proto_field_name=True))
    except (
        json_format.Error,
        TypeError,
        ValueError,
    ) as error:  # an Any of a type unknown here, a time out of range
        raise ContractError(f"a {type_} that JSON cannot show: {error}") from None
