"""Handing back by the server's version. The tests run one version, so the channel is a stand-in."""

from types import SimpleNamespace
from typing import cast

import pytest
from pamqp.commands import Basic

from chassis.bus.rabbitmq.consumer import Consumer, RabbitDelivery
from chassis.bus.rabbitmq.messages import Received
from chassis.bus.rabbitmq.topology import DELIVERY_LIMIT, shared_queue


class _Channel(SimpleNamespace):
    """Of a server of `version`: what was written on it."""

    def __init__(self, version: tuple[int, ...]) -> None:
        written: list[str] = []

        async def move(*_: object) -> None:
            written.append("copy")

        super().__init__(
            written=written,
            alive=True,
            queue=shared_queue("billing-svc"),
            link=SimpleNamespace(version=version, move=move),
            acks=SimpleNamespace(
                done=lambda _: written.append("ack"),
                hand_back=lambda _: written.append("nack"),
            ),
        )


def _delivered(version: tuple[int, ...], count: int) -> tuple[RabbitDelivery, list[str]]:
    channel = _Channel(version)
    received = Received({"x-delivery-count": count}, b"", Basic.Properties(), "", "billing-svc")
    return RabbitDelivery(cast(Consumer, channel), 1, received), channel.written


@pytest.mark.parametrize(
    ("version", "count", "written"),
    [
        ((3, 10, 8), 0, ["nack"]),
        ((3, 10, 8), DELIVERY_LIMIT // 2, ["copy", "ack"]),
        ((4, 2, 1), DELIVERY_LIMIT // 2, ["copy", "ack"]),
        ((4, 3, 0), DELIVERY_LIMIT // 2, ["nack"]),
        ((), DELIVERY_LIMIT // 2, ["copy", "ack"]),
    ],
)
async def test_what_is_handed_back_often_is_renewed_where_the_server_counts_it(
    version: tuple[int, ...], count: int, written: list[str]
) -> None:
    delivery, on_the_channel = _delivered(version, count)
    await delivery.hand_back()
    assert on_the_channel == written
