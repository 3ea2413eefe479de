"""The README's pictures: drawn from code, complete, and free of anything from elsewhere."""

import re
from xml.etree import ElementTree as ET

import pytest
from docs.drawing import recording, terminal, whole

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {"whole": whole.draw(), "demo": terminal.draw(recording.FILE.read_text("utf-8"))}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_drawn_anew_after_a_change(name: str) -> None:
    assert (recording.FILE.parent / f"{name}.svg").read_text("utf-8") == DRAWN[name]


@pytest.mark.parametrize("picture", DRAWN.values(), ids=DRAWN)
def test_a_picture_loads_no_script_no_font_and_no_address(picture: str) -> None:
    elements = {element.tag for element in ET.fromstring(picture).iter()}  # noqa: S314 - our own
    assert f"{SVG}script" not in elements
    assert "@import" not in picture
    assert "@font-face" not in picture
    loaded = re.findall(r"https?://[^\"']+|url\((?!#)|href", picture)
    assert loaded == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize("picture", DRAWN.values(), ids=DRAWN)
def test_a_picture_has_words_for_readers_who_see_none(picture: str) -> None:
    root = ET.fromstring(picture)  # noqa: S314 - our own
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")


def test_the_terminal_shows_each_word_that_the_demo_printed() -> None:
    root = ET.fromstring(DRAWN["demo"])  # noqa: S314 - our own
    shown = " ".join(text.text or "" for text in root.iter(f"{SVG}text"))
    assert shown.split() == ["$", "make", "demo", *recording.FILE.read_text("utf-8").split()]


def test_the_recorded_demo_fits_on_a_terminal_of_100_columns() -> None:
    assert max(map(len, recording.FILE.read_text("utf-8").splitlines())) <= terminal.COLUMNS


RECORDED = "✓ drained in 0.4 s with 97 of 1000 handled\n  8e6152eb32ad  3  2026-11-30T19:21:36\n"


def test_another_run_with_other_figures_is_no_difference() -> None:
    printed = (
        "✓ drained in 12.9 s with 7 of 1000 handled\n  0123456789ab    14  2027-01-01T00:00:00\n"
    )
    assert recording.difference(printed, RECORDED) == ""


def test_another_word_is_a_difference_and_is_shown() -> None:
    assert "+✓ ended in # s" in recording.difference(RECORDED.replace("drained", "ended"), RECORDED)
