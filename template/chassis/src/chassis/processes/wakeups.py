"""Wake-ups of processes: events of the service to itself that are handled at or after a time.

A wake-up goes to the broker at once. A replica that gets it before its time sends it back to wait
there, so it survives every restart and is never early. It names the instance and the number of the
wish, so that one that is out of date does nothing when it comes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from chassis.contracts import json_body
from chassis.contracts.envelope import EncodedEvent, Envelope, format_time, parse_time
from chassis.processes.store import Address, Record


def wakeup_type(service: str) -> str:
    """The event type of the wake-ups of `service`: no other service takes them.

    A bus takes nothing but what may be the full name of a message.
    """
    name = re.sub(r"\W", "_", service, flags=re.ASCII)
    return f"chassis.wakeups.of_{name}"


@dataclass(frozen=True, slots=True)
class WakeUp:
    """What the handler of a wake-up gets: its `name`, and the time `due` that was asked for."""

    at: Address
    instance: str
    name: str
    number: int
    due: datetime

    @property
    def id(self) -> str:
        """The same whenever the same wish is published."""
        text = f"{self.at.id}\0{self.instance}\0{self.name}\0{self.number}"
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def wanted_by(self, record: Record | None) -> bool:
        """False if the process has ended, is another one, or has asked anew since."""
        if record is None or record.status != "active" or record.instance != self.instance:
            return False
        wake = record.wakes.get(self.name)
        return wake is not None and wake.number == self.number


def wakeups_of(record: Record) -> Iterator[WakeUp]:
    """What `record` waits for."""
    for name, wake in record.wakes.items():
        yield WakeUp(record.address, record.instance, name, wake.number, wake.due)


def to_wakeup_event(wakeup: WakeUp, service: str) -> EncodedEvent:
    """The event that wakes a process of `service`. Its time is when it is due."""
    body = Struct()
    body.update(
        {
            "process": wakeup.at.process,
            "key": wakeup.at.key,
            "instance": wakeup.instance,
            "name": wakeup.name,
            "number": wakeup.number,
            "due": format_time(wakeup.due),
        }
    )
    envelope = Envelope(wakeup.id, service, wakeup_type(service), wakeup.due)
    return EncodedEvent(envelope, body.SerializeToString(deterministic=True))


def parse(body: bytes) -> Message:
    """Raises DecodeError."""
    return Struct.FromString(body)


parse_json = partial(json_body.parse_json, Struct)


def from_body(body: Message) -> WakeUp:
    """Raises ValueError if `body` is none."""
    assert isinstance(body, Struct)  # noqa: S101 - parsed as one
    try:
        return WakeUp(
            Address(str(body["process"]), str(body["key"])),
            str(body["instance"]),
            str(body["name"]),
            int(str(body["number"]).partition(".")[0]),
            parse_time(body["due"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a wake-up: {error!r}") from error
