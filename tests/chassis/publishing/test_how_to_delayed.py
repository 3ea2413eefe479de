"""The how-to of delayed events: its service and its test, run as a reader would."""

import re
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from chassis.testing import Harness

PAGE = Path(__file__).parents[3] / "docs/how-to/publish-later.md"


def messages() -> dict[str, Any]:
    """Its three events, each with a user."""
    file = descriptor_pb2.FileDescriptorProto(
        name="publish_later.proto", package="acme.later.v1", syntax="proto3"
    )
    for name in ("UserSignedUp", "PaymentTaken", "ReminderDue"):
        field = file.message_type.add(name=name).field.add(name="user_id", number=1)
        field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL
    pool = descriptor_pool.Default()
    pool.Add(file)
    found = pool.FindFileByName(file.name).message_types_by_name
    return {name: message_factory.GetMessageClass(each) for name, each in found.items()}


async def test_its_blocks_are_a_service_whose_test_passes() -> None:
    block = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    page: dict[str, Any] = messages() | {"Harness": Harness}
    for code in block.findall(PAGE.read_text("utf-8")):
        exec(code, page)  # noqa: S102 - the page's own code
    await page["test_a_user_who_does_not_pay_is_reminded"]()
