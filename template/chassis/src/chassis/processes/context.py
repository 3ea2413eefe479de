"""The context that a step of a process gets beside state and event."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from chassis.context import Context, Resources_co


class ProcessContext(Context[Resources_co]):
    """As Context, for one step of the process with this `key`."""

    __slots__ = ("_completed", "_names", "_now", "_wakes", "key")

    def __init__(
        self, context: Context[Resources_co], key: str, names: Collection[str], now: datetime
    ) -> None:
        """Shares the events to publish with `context`. `names` are those of known wake-ups."""
        for name in Context.__slots__:
            setattr(self, name, getattr(context, name))
        self.key = key
        """What the process is found by."""
        self._completed = False
        self._names = names
        self._now = now
        self._wakes: dict[str, datetime] = {}

    def wake(
        self, name: str, *, after: timedelta | None = None, at: datetime | None = None
    ) -> None:
        """Call the handler of `wakes(name)` after a time from now, or at a time; never earlier.

        A later wish of the same name takes the place of this one. A process that has ended is
        woken no more. Raises ValueError.
        """
        if name not in self._names:
            known = ", ".join(map(repr, sorted(self._names))) or "none"
            raise ValueError(f"no handler is registered with wakes({name!r}); there are {known}")
        if (after is None) == (at is None):
            raise ValueError(f"wake({name!r}) needs after= or at=, and not both")
        if at is None:
            at = self._now + (after or timedelta())
        if at.tzinfo is None:
            raise ValueError(f"wake({name!r}): at= needs a time zone, such as datetime.now(UTC)")
        self._wakes[name] = at

    def complete(self) -> None:
        """End the process with this step. Events that come for it later do nothing."""
        self._completed = True

    @property
    def wishes(self) -> Mapping[str, datetime]:
        """The wake-ups that this step has asked for."""
        return self._wakes

    @property
    def completed(self) -> bool:
        return self._completed
