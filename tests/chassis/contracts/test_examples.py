"""Made-up events are valid under any contract, with a value in every field that can have one."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from random import Random

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from grpc_tools import protoc

from chassis.contracts.examples import example

CONTRACT = """
syntax = "proto3";
package example.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Plan { PLAN_UNSPECIFIED = 0; PLAN_FREE = 1; PLAN_PAID = 2; }
message Line { string sku = 1; sint32 quantity = 2; Line instead_of = 3; }
message Ordered {
  string order_id = 1;
  bytes digest = 2;
  bool gift = 3;
  double total = 4;
  float weight = 5;
  int64 cents = 6;
  fixed32 country = 7;
  Plan plan = 8;
  optional uint32 floor = 9;
  repeated Line lines = 10;
  repeated string tags = 11;
  map<string, string> notes = 12;
  map<int32, Line> by_shelf = 13;
  google.protobuf.Timestamp at = 14;
  google.protobuf.Duration within = 15;
  google.protobuf.StringValue coupon = 16;
  repeated google.protobuf.Timestamp seen = 17;
  oneof payment { string card = 18; Line voucher = 19; }
  google.protobuf.Any anything = 20;
  google.protobuf.Struct loose = 21;
  repeated google.protobuf.Value values = 22;
}
"""
LEFT_OUT = {"anything", "loose", "values"}

Ordered = Callable[[int], Message]


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Ordered:
    """An example of Ordered from this seed."""
    folder = tmp_path_factory.mktemp("contract")
    (folder / "ordered.proto").write_text(CONTRACT)
    compiled = folder / "ordered.binpb"
    well_known = files("grpc_tools") / "_proto"
    command = [
        "protoc",
        f"-I{folder}",
        f"-I{well_known}",
        "--include_imports",
        f"--descriptor_set_out={compiled}",
    ]
    assert protoc.main([*command, "ordered.proto"]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(Path(compiled).read_bytes()).file:
        pool.Add(file)
    message_type = message_factory.GetMessageClass(pool.FindMessageTypeByName("example.v1.Ordered"))
    return lambda seed: example(message_type, Random(seed))


def test_an_example_survives_the_wire_and_json(ordered: Ordered) -> None:
    for seed in range(200):
        message = ordered(seed)
        assert type(message).FromString(message.SerializeToString()) == message
        assert json_format.Parse(json_format.MessageToJson(message), type(message)()) == message


def test_every_field_that_can_stand_alone_has_something_in_it(ordered: Ordered) -> None:
    all_fields = set(ordered(0).DESCRIPTOR.fields_by_name)
    found: list[set[str]] = [
        {field.name for field, _ in ordered(seed).ListFields()} for seed in range(50)
    ]
    assert set().union(*found) == all_fields - LEFT_OUT
    for fields in found:
        assert all_fields - fields - LEFT_OUT - {"gift", "total", "weight"} in (
            {"card"},
            {"voucher"},
        ), "one of each oneof"


def test_messages_within_messages_come_to_an_end(ordered: Ordered) -> None:
    line = ordered(0).lines[0]  # type: ignore[attr-defined]  # a class made at run time
    assert line.instead_of.sku
    assert not line.instead_of.HasField("instead_of")


def test_the_same_seed_gives_the_same_event_and_another_one_another(ordered: Ordered) -> None:
    assert ordered(7) == ordered(7)
    assert ordered(7) != ordered(8)
