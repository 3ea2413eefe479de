"""The port of the stores of processes: records by key, changed by compare-and-set.

Every adapter passes one conformance suite. A record holds the state's bytes and their type, so that
a later release, or a command without handlers, can say what it finds.

A store without transactions keeps what a step publishes in the record, until it is published: the
step of a crashed replica is then published under the same ids when its event comes again.
"""

import base64
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from chassis.contracts.envelope import AMQP_PREFIX, EncodedEvent, from_headers, to_headers

if TYPE_CHECKING:
    from psycopg import AsyncConnection

Status = Literal["active", "completed", "abandoned"]
STATUSES: tuple[Status, ...] = get_args(Status)

REMEMBERED = 64
"""The last steps that a record remembers, to recognise an event that comes again after a crash."""


class Conflict(Exception):
    """Another replica has changed the record since it was loaded."""


class Unreadable(Exception):
    """A stored record that this chassis cannot read; the message says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a process is found by."""

    process: str
    key: str

    @property
    def id(self) -> str:
        """A 128-bit hash, so that any key fits any store."""
        return blake2b(f"{self.process}\0{self.key}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Pending:
    """What the step with the key `step` publishes, and has not been seen published yet."""

    step: str
    event: EncodedEvent


@dataclass(frozen=True, slots=True)
class Wake:
    """A wake-up that is asked for. A later one of the same name has a higher `number`."""

    number: int
    due: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """One process. `instance` tells it from another process that later has the same key.

    `steps` are the keys of the last steps, `outgoing` what they have still to publish; both stay
    empty in a store with transactions. `reason` says why a process was abandoned.
    """

    address: Address
    instance: str
    status: Status
    state_type: str
    state: bytes
    started: datetime
    changed: datetime
    last_event: str
    number: int = 0
    wakes: Mapping[str, Wake] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    outgoing: tuple[Pending, ...] = ()
    reason: str = ""

    @property
    def idle_since(self) -> datetime:
        """Since when nothing has happened that should: a process waits for its wake-ups."""
        return max([self.changed, *(wake.due for wake in self.wakes.values())])

    def pending(self, step: str) -> list[EncodedEvent]:
        """What `step` has still to publish."""
        return [pending.event for pending in self.outgoing if pending.step == step]


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it is in a store. `revision` is the store's own, and 0 is no record."""

    id: str
    body: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Tally:
    """How many processes have a status, and since when the oldest of them is idle."""

    process: str
    status: Status
    count: int
    idle_since: datetime


class ProcessStore(Protocol):
    """The processes of one service. Methods raise InboxUnavailable without an answer.

    A record that is not active is forgotten after the retention.
    """

    @property
    def transactional(self) -> bool:
        """Whether `within` may be the connection of a handler's transaction."""

    async def open(self) -> None:
        """Connect, and create what is missing in the store."""

    async def load(
        self, address: Address, within: "AsyncConnection[tuple[Any, ...]] | None" = None
    ) -> Stored | None:
        """The record; inside a transaction it is locked. Raises Conflict if that takes long."""

    async def save(
        self,
        record: Record,
        revision: int,
        within: "AsyncConnection[tuple[Any, ...]] | None" = None,
    ) -> None:
        """Write if the stored revision is still `revision`. Otherwise raises Conflict."""

    def records(self) -> AsyncIterator[Stored]:
        """All records, in no order. One that is changed meanwhile may come twice."""

    async def tally(self) -> Sequence[Tally]:
        """One for each process and status that has a record."""

    async def close(self) -> None: ...


def tally_of(records: Iterable[Record]) -> list[Tally]:
    """`tally` for a store that cannot count."""
    found: dict[tuple[str, Status], Tally] = {}
    for record in records:
        at = record.address.process, record.status
        so_far = found.get(at)
        idle = record.idle_since if so_far is None else min(so_far.idle_since, record.idle_since)
        found[at] = Tally(*at, 1 if so_far is None else so_far.count + 1, idle)
    return list(found.values())


async def readable(records: AsyncIterator[Stored]) -> AsyncIterator[Record]:
    """The `records` that can be read: one that cannot hides no other."""
    async for stored in records:
        try:
            yield decoded(stored.body)
        except Unreadable:
            continue


def encoded(record: Record) -> bytes:
    """The stored form: JSON."""
    return json.dumps(
        {
            "process": record.address.process,
            "key": record.address.key,
            "instance": record.instance,
            "status": record.status,
            "state_type": record.state_type,
            "state": base64.b64encode(record.state).decode(),
            "started": record.started.isoformat(),
            "changed": record.changed.isoformat(),
            "last_event": record.last_event,
            "number": record.number,
            "wakes": {
                name: [wake.number, wake.due.isoformat()] for name, wake in record.wakes.items()
            },
            "steps": record.steps,
            "outgoing": [
                {
                    "step": pending.step,
                    "headers": to_headers(pending.event.envelope, AMQP_PREFIX),
                    "body": base64.b64encode(pending.event.body).decode(),
                }
                for pending in record.outgoing
            ],
            "reason": record.reason,
        },
        separators=(",", ":"),
    ).encode()


def decoded(body: bytes) -> Record:
    """Raises Unreadable."""
    try:
        fields = json.loads(body)
        return Record(
            Address(fields["process"], fields["key"]),
            instance=fields["instance"],
            status=_status(fields["status"]),
            state_type=fields["state_type"],
            state=base64.b64decode(fields["state"], validate=True),
            started=datetime.fromisoformat(fields["started"]),
            changed=datetime.fromisoformat(fields["changed"]),
            last_event=fields["last_event"],
            number=fields["number"],
            wakes={
                name: Wake(number, datetime.fromisoformat(due))
                for name, (number, due) in fields["wakes"].items()
            },
            steps=tuple(fields["steps"]),
            outgoing=tuple(
                Pending(
                    pending["step"],
                    EncodedEvent(
                        from_headers(pending["headers"], AMQP_PREFIX),
                        base64.b64decode(pending["body"], validate=True),
                    ),
                )
                for pending in fields["outgoing"]
            ),
            reason=fields["reason"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(
            f"the stored record of a process cannot be read: {type(error).__name__}"
        ) from error


def _status(word: str) -> Status:
    for status in STATUSES:
        if word == status:
            return status
    raise ValueError(word)
