"""Golden events: every published version as it once was on the wire.

A test notices when one of them is read otherwise. Each event has one JSON file: its type, its
bytes, and their meaning when they were stored. Knows contracts and files only.
"""

import base64
import json
import os
from pathlib import Path

from google.protobuf.message import Message

from chassis.contracts.event_types import (
    ContractError,
    event_type,
    load_contracts,
    message_class,
    to_json,
)

VARIABLE = "GOLDEN"


def golden(folder: Path, example: Message, *examples: Message) -> list[Message]:
    """The events stored in `folder`, by file name, each checked to mean what it meant when stored.

    The examples are events of the versions that are published now. With GOLDEN=write in the
    environment, an example whose type has no file yet is stored. A stored file is never written
    again. Raises AssertionError, naming the file.
    """
    load_contracts(type(example))
    stored = {path: _stored(path) for path in sorted(folder.glob("*.json"))}
    covered = {event_type(message) for message in stored.values()}
    for missing in (each for each in (example, *examples) if event_type(each) not in covered):
        path = folder / f"{event_type(missing)}.json"
        if os.environ.get(VARIABLE) != "write":
            raise AssertionError(
                f"{path} is missing: run this test once with {VARIABLE}=write and check the file in"
            )
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(_written(missing), "utf-8")
        stored[path] = missing
    return [stored[path] for path in sorted(stored)]


def _stored(path: Path) -> Message:
    try:
        entry = json.loads(path.read_text("utf-8"))
        type_, meant = str(entry["type"]), entry["event"]
        body = base64.b64decode(entry["body"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise AssertionError(f"{path} is not a golden event: {error!r}") from error
    try:
        means = json.loads(to_json(type_, body))
    except ContractError as error:
        raise AssertionError(f"{path} cannot be read any more: {error}") from error
    if means != meant:
        raise AssertionError(
            f"{path} means something else now: {means}, stored was {meant}. "
            f"{type_} has been published: undo the change, or make it another version"
        )
    return message_class(type_).FromString(body)


def _written(message: Message) -> str:
    type_, body = event_type(message), message.SerializeToString(deterministic=True)
    entry = {
        "type": type_,
        "body": base64.b64encode(body).decode(),
        "event": json.loads(to_json(type_, body)),
    }
    return json.dumps(entry, indent=2) + "\n"
