"""Orders over HTTP."""

from typing import Annotated

from chassis import Unavailable
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

from acme.orders.v1.orders_pb2 import OrderPlaced
from orders_svc.handlers import service

api = FastAPI(title="orders-svc")
service.mount(api)


class NewOrder(BaseModel):
    order_id: str
    country: str = "norway"
    transfer: bool = False


class Accepted(BaseModel):
    event_id: str


@api.post("/orders", status_code=202)
async def place(order: NewOrder, idempotency_key: Annotated[str, Header()]) -> Accepted:
    """Answers once the event is safe. A repetition with the same key publishes the same event."""
    event = OrderPlaced(**order.model_dump())
    try:
        return Accepted(event_id=await service.publish(event, id=f"orders/{idempotency_key}"))
    except Unavailable:
        raise HTTPException(503, "try again with the same key", {"Retry-After": "1"}) from None
