"""Protected reads over the network: callers share one upstream call and, for a moment, its answer.

    @cached(ttl=0.1)
    async def price(sku: str) -> Price:
        return await catalogue.price(sku)

In memory, each replica for itself. Knows no event, no bus and no store.
"""

from chassis.calls.cached import Cached, CachedError, CallCancelled, cached

__all__ = ["Cached", "CachedError", "CallCancelled", "cached"]
