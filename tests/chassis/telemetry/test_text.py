"""Text from outside loses what a terminal would act on, and nothing else."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.telemetry.text import harmless, harmless_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("a\x7fb\rc\x00", r"a\x7fb\rc\x00"),
        ("abc\u202edef\u2066", r"abc\u202edef\u2066"),
        ("half \ud800", r"half \ud800"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Größe 日本 🙂", "Größe 日本 🙂"),
    ],
)
def test_what_a_terminal_acts_on_is_written_as_its_escape(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_value_on_one_line_keeps_neither_newline_nor_tab() -> None:
    assert harmless_line("id\nFAKE: line\t\u2028x") == r"id\nFAKE: line\t\u2028x"


@given(st.text())
def test_no_control_character_is_left_and_text_can_be_encoded(text: str) -> None:
    shown = harmless_line(text)
    assert not any(unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp"} for each in shown)
    assert not any(
        unicodedata.bidirectional(each) in {"RLO", "LRO", "RLE", "LRE"} for each in shown
    )
    shown.encode()
