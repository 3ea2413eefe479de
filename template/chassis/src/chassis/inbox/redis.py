"""The inbox in Redis: a string a key, with the server's own expiry, changed only by one Lua script.

Operations that arrive while a batch is on its way form the next batch: one script call, one round
trip, executed in order, each one atomic. Knows nothing of buses and handlers.

Redis must not evict (`maxmemory-policy noeviction`): an event with an evicted record is handled
again. Replication is asynchronous: a failover can forget the last records, and their events may be
handled once more. Needs Redis 5 or later, not a cluster (a batch has keys of different slots).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha1
from typing import Any, Literal, NamedTuple

import structlog
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError

from chassis import redis_client
from chassis.inbox import InboxUnavailable, Lease, LeaseLost, Refusal, Refused, probe_key
from chassis.inbox.coalesced import Coalesced

PREFIX = "inbox:"

_FENCE = f"{PREFIX}fence"

# A record is `c:<digest>:<fence>` while claimed and `d:<digest>` when done.
# Fences come from a counter that never lags behind the server's clock (microseconds), so they go on
# growing if the counter is lost; each call reserves one for each of its keys.
_SCRIPT = """
local lease, retention = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local fences = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), time[1] * 1000000 + time[2])
redis.call('SET', KEYS[1], string.format('%.0f', fences + #KEYS))

local function claimed(digest, fence)
  return 'c:' .. digest .. ':' .. fence
end

local perform = {
  claim = function(key, digest, _, new_fence)
    local record = redis.call('GET', key)
    if not record then
      redis.call('SET', key, claimed(digest, string.format('%.0f', new_fence)), 'PX', lease)
      return new_fence
    end
    local state, known = string.match(record, '^(.):([^:]*)')
    if known ~= digest then return {'mismatch', 0} end
    if state == 'd' then return {'duplicate', 0} end
    return {'busy', redis.call('PTTL', key)}
  end,
  extend = function(key, digest, fence)
    if redis.call('GET', key) ~= claimed(digest, fence) then return 0 end
    return redis.call('PEXPIRE', key, lease)
  end,
  complete = function(key, digest, fence)
    if redis.call('GET', key) ~= claimed(digest, fence) then return 0 end
    redis.call('SET', key, 'd:' .. digest, 'PX', retention)
    return 1
  end,
  release = function(key, digest, fence)
    if redis.call('GET', key) ~= claimed(digest, fence) then return 0 end
    return redis.call('DEL', key)
  end,
}

local answers = {}
for i = 2, #KEYS do
  local verb, digest, fence = ARGV[3 * i - 3], ARGV[3 * i - 2], ARGV[3 * i - 1]
  answers[i - 1] = perform[verb](KEYS[i], digest, fence, fences + i)
end
return answers
"""
_SCRIPT_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

_log = structlog.get_logger()


class _Operation(NamedTuple):
    verb: Literal["claim", "extend", "complete", "release"]
    key: str
    digest: str
    fence: int = 0


class RedisInbox:
    """`url` is `redis://`, `rediss://` (TLS) or `unix://`; raises ValueError for any other.

    `redis+sentinel://sentinel-1,sentinel-2/primary/0` (`rediss+sentinel://`) asks sentinels where
    the primary of that name is, at each connection.

    An answer takes at most twice `timeout` seconds: the batch before it, and its own.
    """

    def __init__(
        self, url: str, lease_seconds: float, retention_seconds: float, *, timeout: float = 5.0
    ) -> None:
        self._lease_ms = _milliseconds(lease_seconds)
        self._retention_ms = _milliseconds(retention_seconds)
        self._timeout = timeout
        self._redis = redis_client.connect(url, timeout)
        self._where = redis_client.where(url)
        self._operations = Coalesced(self._perform)

    async def open(self) -> None:
        await self.ping()
        await self._warn_of_eviction()

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        answer = await self._operations.ask(_Operation("claim", key, digest))
        if isinstance(answer, int):
            return Lease(key, digest, answer)
        refusal, milliseconds_left = answer
        return Refused(
            Refusal(refusal.decode()),
            max(milliseconds_left, 1) / 1000 if refusal == b"busy" else 0.0,
        )

    async def extend(self, lease: Lease) -> Lease:
        if not await self._operations.ask(_Operation("extend", *lease)):
            raise LeaseLost(lease.key)
        return lease

    async def complete(self, lease: Lease) -> None:
        if not await self._operations.ask(_Operation("complete", *lease)):
            raise LeaseLost(lease.key)

    async def release(self, lease: Lease) -> None:
        await self._operations.ask(_Operation("release", *lease))

    async def ping(self) -> None:
        claim = await self.claim(probe_key(), "")
        if isinstance(claim, Lease):
            await self.release(claim)

    async def close(self) -> None:
        await self._operations.close()
        await self._redis.aclose()

    async def _perform(self, batch: Sequence[_Operation]) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._evaluate(batch)
        except (RedisError, OSError) as error:
            if _why_no_writes(error) is not None:
                await self._disconnect()
            raise self._unavailable(error) from error

    async def _disconnect(self) -> None:
        """Connect anew for the next batch: a failover may have led the address elsewhere."""
        with suppress(RedisError, OSError):
            await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def _evaluate(self, batch: Sequence[_Operation]) -> list[Any]:
        keys = [_FENCE, *(PREFIX + operation.key for operation in batch)]
        arguments: list[str | int] = [self._lease_ms, self._retention_ms]
        for operation in batch:
            arguments += [operation.verb, operation.digest, operation.fence]
        try:
            answers = await self._redis.evalsha(_SCRIPT_SHA, len(keys), *keys, *arguments)
        except NoScriptError:
            answers = await self._redis.eval(_SCRIPT, len(keys), *keys, *arguments)
        return list(answers)

    async def _warn_of_eviction(self) -> None:
        try:
            memory = await self._redis.info("memory")
        except (RedisError, OSError) as error:
            _log.info("it is not known whether Redis may evict records", reason=str(error))
            return
        if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
            _log.warning(
                "Redis may evict records, and their events are then handled again; "
                "set maxmemory-policy to noeviction",
                maxmemory_policy=memory.get("maxmemory_policy"),
            )

    def _unavailable(self, error: Exception) -> InboxUnavailable:
        if (why := _why_no_writes(error)) is not None:
            return InboxUnavailable(f"Redis at {self._where} refuses writes: {why}")
        return InboxUnavailable(
            f"Redis at {self._where} failed: {str(error) or type(error).__name__}"
        )


_NO_WRITES = {
    "READONLY": "it is a replica, not the primary",
    "OOM": "its memory is full (maxmemory)",
    "MISCONF": "it cannot save its data to disk (MISCONF)",
    "NOREPLICAS": "too few of its replicas are connected (min-replicas-to-write)",
}
"""By the server's error code. Before Redis 7 the code is in the middle of a script's error."""


def _why_no_writes(error: Exception) -> str | None:
    """Why a server that answers refuses writes; None for any other error."""
    if isinstance(error, ReadOnlyError):
        return _NO_WRITES["READONLY"]
    if isinstance(error, OutOfMemoryError):
        return _NO_WRITES["OOM"]
    if not isinstance(error, RedisError):
        return None
    said = str(error)
    return next(
        (
            why
            for code, why in _NO_WRITES.items()
            if said.startswith(f"{code} ") or f"-{code} " in said
        ),
        None,
    )


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
