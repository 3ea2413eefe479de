"""Protected reads over the network: one call upstream for all who ask at once, its answer kept for a moment.

    @cached(ttl=0.1)
    async def price(sku: str) -> Price:
        return await catalogue.price(sku)

In memory, each replica for itself. Knows no event, no bus and no store.
"""

from chassis.calls.cached import Cached, CachedError, cached

__all__ = ["Cached", "CachedError", "cached"]
