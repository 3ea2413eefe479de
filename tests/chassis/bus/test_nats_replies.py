"""Answers of JetStream, given to the requests that wait for them: without a server."""

import asyncio

import pytest

from chassis.bus import BusUnavailable
from chassis.jetstream.errors import JetStreamError
from chassis.jetstream.replies import Replies, Reply


async def answer(body: bytes, block: bytes | None = None) -> Reply:
    replies = Replies("here", 5.0, BusUnavailable, lambda _: None)
    replies.begin("_INBOX.a.")
    subject, future = replies.expect()
    replies.on_reply(subject.encode(), b"", body, block)
    async with asyncio.timeout(1):
        return await future


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"stream":"EVENTS", "seq":12}', {"seq": 12}),
        (b'{"stream":"EVENTS","seq":12}', {"seq": 12}),
        (b'{"stream":"EVENTS", "seq":0}', {"seq": 0}),
        (
            b'{"stream":"E", "seq":7,"duplicate": true}',
            {"stream": "E", "seq": 7, "duplicate": True},
        ),
        (b'{"stream":"E", "domain":"hub", "seq":7}', {"seq": 7}),
        (b'{"type":"io.nats.x","total":3}', {"type": "io.nats.x", "total": 3}),
    ],
)
async def test_an_answer_tells_where_a_publish_is_stored(body: bytes, told: Reply) -> None:
    assert await answer(body) == told


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"code":400,"err_code":10071,"description":"no"},"stream":"EVENTS","seq":0}',
        b'{"stream":"EVENTS","seq":3,"error":{"err_code":10071}}',
        b'{"type":"x","error":{"err_code":10071,"description":"wrong: 5"}}',
    ],
)
async def test_a_refusal_is_never_taken_for_a_confirmation(body: bytes) -> None:
    with pytest.raises(JetStreamError) as refused:
        await answer(body)
    assert refused.value.code == 10071


@pytest.mark.parametrize("body", [b"", b"1}", b'{"stream":"', b'{"stream":"EVENTS", "seq":\xb2}'])
async def test_what_is_no_answer_of_jetstream_confirms_nothing(body: bytes) -> None:
    with pytest.raises(BusUnavailable):
        await answer(body)
