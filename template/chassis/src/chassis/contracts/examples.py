"""Events made up from their contract alone: valid, and without meaning.

Knows protobuf's descriptors; knows no bus, and no field's purpose.
"""

from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_DEEPEST = 3
_MOST_ENTRIES = 3
_WELL_KNOWN = "google.protobuf."
_WRAPPERS = "google/protobuf/wrappers.proto"
_YEARS_2020_TO_2029 = (1_577_836_800, 1_893_456_000)
_SECONDS = {
    _WELL_KNOWN + "Timestamp": _YEARS_2020_TO_2029,
    _WELL_KNOWN + "Duration": (1, 86_400),
}


def example(message_type: type[Message], random: Random) -> Message:
    """A message with something in every field, and in one field of each oneof.

    What means nothing without its context is left out (Any, Struct, FieldMask and the like), and so
    are messages more than three levels deep.
    """
    message = message_type()
    _fill(message, random, 1)
    return message


def _fill(message: Any, random: Random, depth: int) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    if descriptor.full_name in _SECONDS:
        message.seconds = random.randrange(*_SECONDS[descriptor.full_name])
        return
    chosen = {oneof.name: random.choice(oneof.fields).name for oneof in descriptor.oneofs}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if (oneof is None or chosen[oneof.name] == field.name) and _has_meaning(field, depth):
            _fill_field(message, field, random, depth)


def _has_meaning(field: FieldDescriptor, depth: int) -> bool:
    entry = _map_entry(field)
    inner = (field if entry is None else entry.fields_by_name["value"]).message_type
    if (
        inner is None
        or field.is_required
        or inner.full_name in _SECONDS
        or inner.file.name == _WRAPPERS
    ):
        return True
    return depth < _DEEPEST and not inner.full_name.startswith(_WELL_KNOWN)


def _fill_field(message: Any, field: FieldDescriptor, random: Random, depth: int) -> None:
    entry = _map_entry(field)
    if entry is not None:
        entries = getattr(message, field.name)
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for _ in range(random.randint(1, _MOST_ENTRIES)):
            if value.message_type is None:
                entries[_scalar(key, random)] = _scalar(value, random)
            else:
                _fill(entries[_scalar(key, random)], random, depth + 1)
    elif field.is_repeated:
        entries = getattr(message, field.name)
        for _ in range(random.randint(1, _MOST_ENTRIES)):
            if field.message_type is None:
                entries.append(_scalar(field, random))
            else:
                _fill(entries.add(), random, depth + 1)
    elif field.message_type is None:
        setattr(message, field.name, _scalar(field, random))
    else:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _fill(inner, random, depth + 1)


def _map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The message of key and value, if `field` is a map."""
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def _scalar(field: FieldDescriptor, random: Random) -> object:
    if field.enum_type is not None:
        named = [value.number for value in field.enum_type.values if value.number != 0]
        return random.choice(named) if named else 0
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return random.randbytes(16)
        case FieldDescriptor.CPPTYPE_STRING:
            return f"{field.name}-{random.getrandbits(32):08x}"
        case FieldDescriptor.CPPTYPE_BOOL:
            return random.choice((False, True))
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return random.randrange(1_000_000) / 4  # exact in both
        case _:
            return random.randrange(1, 1_000_000)
