"""What the memory bus does beyond the conformance suite."""

from chassis.bus import Failure
from chassis.bus.memory import MemoryBroker, MemoryDelivery, _Item, _Queue

TYPE = "acme.signup.v1.UserSignedUp"


async def bury(broker: MemoryBroker, id_: str, body: bytes, source: str = "shop") -> None:
    headers = {"cloudEvents:id": id_, "cloudEvents:source": source}
    delivery = MemoryDelivery(_Item(TYPE, headers, body), _Queue(None), broker, lambda _: None)
    await delivery.dead(Failure("rejected", service="billing-svc"))


async def test_a_message_that_died_twice_is_one_entry() -> None:
    broker = MemoryBroker()
    await bury(broker, "e-1", b"1")
    await bury(broker, "e-1", b"1")
    assert len(broker.dead["billing-svc"]) == 1


async def test_messages_that_share_an_id_but_not_source_or_body_are_an_entry_each() -> None:
    broker = MemoryBroker()
    await bury(broker, "e-1", b"1")
    await bury(broker, "e-1", b"2")
    await bury(broker, "e-1", b"1", source="another shop")
    assert len(broker.dead["billing-svc"]) == 3
