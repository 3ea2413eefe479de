"""How pytest-xdist hands out the tests. Imported in a run with workers only."""

from xdist.scheduler import LoadScopeScheduling

from tests import workers


class Scheduling(LoadScopeScheduling):
    """Gives each worker one unit at a time, in the order of the collected tests."""

    def _split_scope(self, nodeid: str) -> str:
        return workers.unit(nodeid)
