"""The context that a step of a process gets beside state and event."""

from chassis.context import Context, Resources_co


class ProcessContext(Context[Resources_co]):
    """As Context, for one step of the process with this `key`."""

    __slots__ = ("_completed", "key")

    def __init__(self, context: Context[Resources_co], key: str) -> None:
        """Shares the events to publish with `context`."""
        for name in Context.__slots__:
            setattr(self, name, getattr(context, name))
        self.key = key
        """What the process is found by."""
        self._completed = False

    def complete(self) -> None:
        """End the process with this step. Events that come for it later do nothing."""
        self._completed = True

    @property
    def completed(self) -> bool:
        return self._completed
