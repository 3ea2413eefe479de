"""What log lines look like, and what they never hold."""

import json
import logging
import re
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import structlog

from chassis.telemetry.logs import handling
from tests.chassis.conftest import LogLines

SECRET = "hunter2"  # noqa: S105 - a secret nobody keeps

LOGS_AN_ERROR = """
import structlog, sys
from chassis.telemetry import logs

def fails(password):
    raise OSError("the ledger is closed")

logs.configure(sys.argv[1], "info", "billing-svc")
try:
    fails(sys.argv[2])
except OSError:
    structlog.get_logger("test").exception("it failed", plan="basic")
structlog.get_logger("test").debug("nobody asked")
"""


@cache
def stderr_of(log_format: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOGS_AN_ERROR, log_format, SECRET],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


class Fields:
    def log_fields(self) -> dict[str, object]:
        return {"event_id": "e-1", "attempt": 2}


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_lines_are_json_on_stderr_when_it_is_no_terminal(log_format: str) -> None:
    (line,) = stderr_of(log_format).splitlines()
    fields = json.loads(line)
    expected = {
        "event": "it failed",
        "level": "error",
        "logger": "test",
        "service": "billing-svc",
        "plan": "basic",
    }
    assert {name: fields[name] for name in expected} == expected
    assert fields["timestamp"].endswith("Z")
    assert fields["exception"][0]["exc_value"] == "the ledger is closed"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_stack_in_the_log_holds_no_values_of_local_variables(log_format: str) -> None:
    text = stderr_of(log_format)
    assert "the ledger is closed" in text
    assert "fails" in text
    assert SECRET not in text


def test_lines_of_other_libraries_are_json_too(log_lines: LogLines) -> None:
    logging.getLogger("somebody.else").warning("watch %s", "out")
    (line,) = log_lines()
    assert (line["event"], line["level"], line["service"]) == (
        "watch out",
        "warning",
        "billing-svc",
    )


def test_chatty_clients_are_heard_from_warnings_on(log_lines: LogLines) -> None:
    logging.getLogger("aiormq").info("connected")
    logging.getLogger("aiormq").warning("lost")
    assert [line["event"] for line in log_lines()] == ["lost"]


def test_lines_carry_the_fields_of_the_handling_and_their_own_win(log_lines: LogLines) -> None:
    token = handling.set(Fields())
    try:
        structlog.get_logger("test").info("at work", attempt="mine")
        logging.getLogger("somebody.else").warning("at work")
    finally:
        handling.reset(token)
    structlog.get_logger("test").info("at rest")
    first, second, third = log_lines()
    assert (first["event_id"], first["attempt"]) == ("e-1", "mine")
    assert (second["event_id"], second["attempt"]) == ("e-1", 2)
    assert "event_id" not in third


def test_a_value_that_json_does_not_know_does_not_lose_the_line(log_lines: LogLines) -> None:
    odd: Any = {1, 2}
    structlog.get_logger("test").info("odd", value=odd)
    assert log_lines()[0]["value"] == "{1, 2}"


LOGS_AN_EVENT = """
import structlog, sys
from chassis.telemetry import logs

logs.configure("console", "info", "billing-svc")
text = "id" + chr(27) + "]0;TITLE" + chr(7) + chr(155) + chr(0x202e) + chr(10) + "FAKE: line"
log = structlog.get_logger("test")
odd = type("Odd", (), {"__repr__": lambda _: text})()
log.info("took " + text, event_id=text, source=[text], odd=odd)
try:
    raise ValueError(text)
except ValueError:
    log.exception("failed")
import logging
logging.getLogger("of a client").warning("refused: %s", text)
"""


def test_a_console_line_holds_nothing_of_an_event_that_a_terminal_acts_on() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS_AN_EVENT], capture_output=True, check=True)
    said = done.stderr.decode()
    assert said.count("TITLE") >= 6
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said)
    assert [line for line in said.splitlines() if line.startswith("FAKE")] == ["FAKE: line"]
