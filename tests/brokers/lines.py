"""The lines between the nodes of a cluster, which a test can cut: one cable for each direction.

Knows ports; knows no broker.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import permutations

from tests.brokers.cable import Cable
from tests.brokers.process import free_port


class Lines:
    """Node `n` listens at `ports[n]`; node `m` reaches it at `port(m, n)`."""

    def __init__(self, nodes: int) -> None:
        self.ports = [free_port() for _ in range(nodes)]
        self._cables = {
            (near, far): Cable(self.ports[far]) for near, far in permutations(range(nodes), 2)
        }

    def port(self, near: int, far: int) -> int:
        return self.ports[far] if near == far else self._cables[near, far].port

    @contextmanager
    def isolated(self, *nodes: int) -> Iterator[None]:
        """Each of these nodes reaches no other one, and no other one reaches it."""
        cut = [cable for ends, cable in self._cables.items() if set(ends) & set(nodes)]
        for cable in cut:
            cable.cut()
        try:
            yield
        finally:
            for cable in cut:
                cable.mend()

    @contextmanager
    def laid(self) -> Iterator["Lines"]:
        with ExitStack() as stack:
            for cable in self._cables.values():
                stack.enter_context(cable.laid())
            yield self
