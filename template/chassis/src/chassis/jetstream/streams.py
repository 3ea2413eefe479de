"""Streams with the replicas and the bounds that are wanted: created, or raised; never lowered.

Services share streams, and operators make some beforehand, so the largest wish holds. Knows
JetStream's API; knows no event and no claim.
"""

from collections.abc import Callable
from typing import Any

import structlog

from chassis.jetstream.connection import JetStream
from chassis.jetstream.errors import (
    NO_STREAM,
    NOT_CLUSTERED,
    NOT_ENOUGH_NODES,
    STREAM_EXISTS,
    JetStreamError,
)
from chassis.jetstream.replies import Reply

Config = dict[str, Any]
"""The configuration of a stream, as JetStream's API names its fields."""

SAFE_REPLICAS = 3
"""With three replicas a stream survives the loss of a node. More than three are not expected."""

_log = structlog.get_logger(__name__)


class Streams:
    """The streams of one connection; `replicas` is the least number of copies of each."""

    def __init__(self, link: JetStream, replicas: int) -> None:
        self._link = link
        self._replicas = replicas
        self._few: dict[str, int] = {}
        self._told: set[str] = set()

    async def provide(self, created: Config, grow: Callable[[Config], Config]) -> Config:
        """Create the stream, or change what `grow` names of an existing one.

        Gives the configuration in effect. Raises JetStreamError, and `unavailable` of the link.
        """
        name: str = created["name"]
        try:
            config = await self.check(name)
        except JetStreamError as error:
            if error.code != NO_STREAM:
                raise
            await self._create(name, created)
            config = await self.check(name)
        changes = {key: value for key, value in grow(config).items() if config.get(key) != value}
        if changes:
            config |= changes
            await self._link.api(f"STREAM.UPDATE.{name}", **config)
        if config["num_replicas"] < self._replicas:
            config = await self._replicate(name, config)
        self._few[name] = config["num_replicas"]
        return config

    def warn_of_few_replicas(self) -> None:
        """Say once which streams a cluster keeps fewer than three times."""
        enough = SAFE_REPLICAS if self._link.nodes >= SAFE_REPLICAS else 1
        few = sorted(name for name, replicas in self._few.items() if replicas < enough)
        if few and "few" not in self._told:
            self._told.add("few")
            _log.warning(
                "streams have fewer replicas than the NATS cluster has nodes: if a node is lost, "
                f"they are too; set CHASSIS_NATS_REPLICAS={SAFE_REPLICAS}",
                streams=few,
                replicas=min(self._few[name] for name in few),
                nodes=self._link.nodes,
            )

    async def check(self, name: str) -> Config:
        """The stream's configuration. Raises `unavailable` if a majority of its copies is gone."""
        info = await self._link.read_clock(name)
        others = info.get("cluster", {}).get("replicas") or []
        gone = sum(bool(other.get("offline")) for other in others)
        if 2 * gone > len(others):
            raise self._link.unavailable(
                f"the stream {name} has lost its quorum: {gone} of {1 + len(others)} replicas "
                "are offline"
            )
        config: Config = info["config"]
        return config

    async def _create(self, name: str, created: Config) -> None:
        wanted: Reply = {"storage": "file", "num_replicas": self._replicas} | created
        try:
            await self._link.api(f"STREAM.CREATE.{name}", **wanted)
        except JetStreamError as error:
            if error.code in {NOT_CLUSTERED, NOT_ENOUGH_NODES}:
                raise self._link.unavailable(
                    f"the stream {name} cannot have {self._replicas} replicas "
                    f"(CHASSIS_NATS_REPLICAS): {error}"
                ) from error
            if error.code != STREAM_EXISTS:  # otherwise another replica was faster
                raise

    async def _replicate(self, name: str, config: Config) -> Config:
        """Raise the replicas. The stream stays in use if the cluster cannot do it now."""
        raised = config | {"num_replicas": self._replicas}
        try:
            await self._link.api(f"STREAM.UPDATE.{name}", **raised)
        except JetStreamError as error:
            if name not in self._told:
                self._told.add(name)
                _log.warning(
                    "a stream has fewer replicas than CHASSIS_NATS_REPLICAS; "
                    "the next connection tries to raise them again",
                    stream=name,
                    replicas=config["num_replicas"],
                    wanted=self._replicas,
                    reason=str(error),
                )
            return config
        _log.info("a stream has more replicas now", stream=name, replicas=self._replicas)
        return raised


def longest(there: int, wanted: int) -> int:
    """The larger of two bounds of a stream; 0 and below mean no bound."""
    return max(there, wanted) if there > 0 and wanted > 0 else min(there, wanted)
