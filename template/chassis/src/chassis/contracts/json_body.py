"""Events whose body is JSON, from publishers without protobuf: protobuf's JSON mapping.

Source: the ProtoJSON format of protobuf. Knows message classes; knows no envelope and no upcaster.
"""

from google.protobuf import json_format
from google.protobuf.message import Message


class BadJson(ValueError):
    """The body is no JSON of the event's type; the message says where."""


def parse_json(message: type[Message], body: bytes) -> Message:
    """An event of the class `message`. Unknown fields are ignored, as in binary.

    Raises BadJson.
    """
    if not body.lstrip().startswith(b"{"):  # json_format takes an empty list for an empty message
        raise BadJson("the body is no JSON object")
    try:
        return json_format.Parse(body, message(), ignore_unknown_fields=True)
    except Exception as error:
        raise BadJson(" ".join(str(error).split()) or type(error).__name__) from error
