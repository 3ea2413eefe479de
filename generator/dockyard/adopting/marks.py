"""Marks: answers in free words that a template accepts and that are seen wherever they come out.

A validator may ask for a form, such as a URL or four capital letters. So a question has several
marks to try: a word, the default with one of its words replaced, and a word in the form of the
default. Knows questions; knows nothing of renders.
"""

import re
from collections.abc import Iterator, Mapping

_WORD = re.compile(r"[A-Za-z0-9]+")
_LOWER, _UPPER, _DIGITS = "qxzjkvw", "QXZJKVW", "7395816"
_FREE = frozenset({"str", "int", "float"})


def is_free(details: Mapping[str, object]) -> bool:
    """Whether the question with these `details` is answered in free words or figures."""
    return details.get("type", "str") in _FREE and not details.get("choices")


def candidates(number: int, details: Mapping[str, object], default: object) -> list[str]:
    """Marks to try for the question `number` of a template, the plainest first.

    `default` is what answers the question if nothing else does; None if it is not known.
    """
    samples = [str(each) for each in (default, details.get("placeholder")) if each is not None]
    marks = [f"mark{number}ofanswer"] if details.get("type", "str") == "str" else []
    for sample in samples:
        marks += _with_a_word(sample, f"mark{number}ofanswer")
        marks.append(_in_the_form_of(sample, number))
    if not samples and not marks:
        marks.append(_in_the_form_of("00000", number))
    return list(dict.fromkeys(mark for mark in marks if mark not in samples))


def _with_a_word(sample: str, word: str) -> Iterator[str]:
    """`sample` with one of its words replaced, the last one first: URLs begin alike."""
    for match in reversed([*_WORD.finditer(sample)]):
        yield sample[: match.start()] + word + sample[match.end() :]


def _in_the_form_of(sample: str, number: int) -> str:
    """Another text of the same length, with letters for letters and digits for digits."""
    made = []
    for place, letter in enumerate(sample, number):
        alphabet = (
            _DIGITS
            if "0" <= letter <= "9"
            else _UPPER
            if "A" <= letter <= "Z"
            else _LOWER
            if "a" <= letter <= "z"
            else letter
        )
        made.append(alphabet[place % len(alphabet)])
    return "".join(made)
