"""Text from outside made harmless: the one place, for every command, table and log line.

An event's fields may hold sequences that move, colour or clear a terminal, or turn the direction of
text. Such a character is written as Python would write it in a string: `\\x1b`.
"""

import re

# C0 without tab and newline, DEL and C1; marks, separators and overrides of the direction of text;
# halves of surrogate pairs, which no terminal's encoding can take.
_HARMFUL = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"
    r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    r"\ud800-\udfff"
)
_IN_TEXT = re.compile(f"[{_HARMFUL}]")
_IN_A_LINE = re.compile(rf"[\t\n{_HARMFUL}]")


def harmless(text: str) -> str:
    """`text` with its newlines and tabs, and no other character that a terminal would act on."""
    return _IN_TEXT.sub(_escape, text)


def harmless_line(text: str) -> str:
    """As `harmless`, on one line: a value from outside cannot pretend to be the next line."""
    return _IN_A_LINE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]
