"""welcome-svc on a bus and an inbox in memory."""

import pytest
from chassis.testing import Harness

from acme.welcome.v1.welcome_sent_pb2 import WelcomeSent
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from welcome_svc import handlers


async def test_a_signup_is_handled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(handlers, "call_provider", lambda _name, event, _key: calls.append(event))
    async with Harness(handlers.service) as harness:
        signup = UserSignedUp(user_id="ada", email="ada@example.com")
        assert await harness.send(signup, id="e-1") == "done"
        assert await harness.send(signup, id="e-1") == "duplicate"
        assert calls == ["e-1"]
        assert [type(event) for event in harness.published] == [WelcomeSent]
