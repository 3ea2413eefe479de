"""Processes in Redis: a string a process, changed by one Lua script that compares the revision.

A sorted set names the records of a service, so that listing them reads no other key. As for the
inbox, Redis must not evict, a failover can forget the last writes, and a cluster does not fit.
"""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from chassis import redis_client
from chassis.inbox import InboxUnavailable
from chassis.processes.store import (
    Address,
    Conflict,
    Record,
    Stored,
    Tally,
    encoded,
    readable,
    tally_of,
)

if TYPE_CHECKING:
    from psycopg import AsyncConnection

PREFIX = "process:"

# A value is `<revision>:<record>`. The set's scores are all 0: its order is that of the ids.
_SAVE = """
local known = redis.call('GET', KEYS[1])
local revision = known and string.match(known, '^%d+') or '0'
if revision ~= ARGV[1] then return 0 end
local value = string.format('%.0f', ARGV[1] + 1) .. ':' .. ARGV[2]
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[3])
end
redis.call('ZADD', KEYS[2], 0, ARGV[4])
return 1
"""
_PAGE = 200


class RedisProcesses:
    """The processes of `service`; `url` as for the inbox. `timeout` (seconds) bounds an answer."""

    transactional = False

    def __init__(
        self, url: str, service: str, retention_seconds: float, *, timeout: float = 5.0
    ) -> None:
        self._redis = redis_client.connect(url, timeout)
        self._prefix = f"{PREFIX}{service}:"
        self._index = f"{PREFIX}{service}"
        self._retention = max(1, round(retention_seconds * 1000))
        self._save = self._redis.register_script(_SAVE)

    async def open(self) -> None:
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error

    async def load(
        self, address: Address, within: "AsyncConnection[tuple[Any, ...]] | None" = None
    ) -> Stored | None:
        try:
            value: Any = await self._redis.get(self._prefix + address.id)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        return None if value is None else _stored(address.id, value)

    async def save(
        self,
        record: Record,
        revision: int,
        within: "AsyncConnection[tuple[Any, ...]] | None" = None,
    ) -> None:
        id_ = record.address.id
        expires = 0 if record.status == "active" else self._retention
        try:
            saved = await self._save(
                keys=[self._prefix + id_, self._index],
                args=[revision, encoded(record), expires, id_],
            )
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        if not saved:
            raise Conflict(id_)

    async def records(self) -> AsyncIterator[Stored]:
        least = "-"
        while True:
            try:
                ids: Any = await self._redis.zrangebylex(self._index, least, "+", 0, _PAGE)
                if not ids:
                    return
                values: Any = await self._redis.mget([self._prefix + id_.decode() for id_ in ids])
                if gone := [id_ for id_, value in zip(ids, values, strict=True) if value is None]:
                    await self._redis.zrem(self._index, *gone)
            except (RedisError, OSError) as error:
                raise _unavailable(error) from error
            for id_, value in zip(ids, values, strict=True):
                if value is not None:
                    yield _stored(id_.decode(), value)
            least = f"({ids[-1].decode()}"

    async def tally(self) -> Sequence[Tally]:
        return tally_of([record async for record in readable(self.records())])

    async def close(self) -> None:
        await self._redis.aclose()


def _stored(id_: str, value: bytes) -> Stored:
    revision, _, body = value.partition(b":")
    return Stored(id_, body, int(revision) if revision.isdigit() else 0)


def _unavailable(error: Exception) -> InboxUnavailable:
    return InboxUnavailable(f"the processes in Redis: {str(error) or type(error).__name__}")
