"""What the log says of the connection to a broker: the same words and fields for every broker.

One query finds an outage on every broker: `lost the broker` begins it, `connected` ends it,
and in between `cannot use the broker` names each further cause once, not once for each try.
"""

import structlog

_log = structlog.get_logger(__name__)


class ConnectionLog:
    """Log of the connection `name` to `broker` (rabbitmq, nats) at `server`.

    `server` is an address without secrets.
    """

    def __init__(self, broker: str, server: str, name: str) -> None:
        self._fields = {"broker": broker, "server": server, "connection": name}
        self._told = ""

    def connected(self, version: str) -> None:
        """Connected and set up."""
        self._told = ""
        _log.info("connected", version=version, **self._fields)

    def lost(self, reason: str) -> None:
        """A connection that worked is gone."""
        self._told = reason
        _log.warning("lost the broker", reason=reason, **self._fields)

    def unusable(self, reason: str) -> None:
        """A try to connect has failed, and the next one follows."""
        if reason != self._told:
            self._told = reason
            _log.warning("cannot use the broker", reason=reason, **self._fields)
