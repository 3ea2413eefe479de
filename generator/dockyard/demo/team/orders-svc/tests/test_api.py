"""The HTTP API of orders-svc, without a port."""

from chassis.testing import Harness
from httpx import ASGITransport, AsyncClient

from orders_svc.api import api
from orders_svc.handlers import service


async def test_the_same_key_publishes_the_same_event() -> None:
    async with Harness(service), AsyncClient(transport=ASGITransport(api), base_url="http://api") as client:
        order, key = {"order_id": "o-1", "country": "norway"}, {"Idempotency-Key": "k-1"}
        first, second = [await client.post("/orders", json=order, headers=key) for _ in range(2)]
        assert first.status_code == 202
        assert first.json() == second.json()
