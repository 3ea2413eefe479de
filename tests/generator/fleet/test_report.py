"""The report: one page that a browser shows on a desk and on a phone, with any name in it."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dockyard.fleet.report import page
from dockyard.fleet.roster import Roster
from dockyard.fleet.status import Release, Row, State
from dockyard.fleet.timeline import HEIGHT, OLDER, WIDTH, timeline
from dockyard.updating.plan import Question
from tests.brokers.binaries import MissingProgramError
from tests.browser import chromium
from tests.generator.fleet.conftest import DRIFTED, IN_CONFLICT, Fleet
from tests.generator.lab import Dockyard, git

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}\u202e\x1b[2J"
ROWS = "[...document.querySelectorAll('tbody tr')]"
TORN = (("Makefile", "content"), ("chassis/pyproject.toml", "modify/delete"))
LONG = "src/" + "a-very-long-name-without-an-end" * 6 + ".py"


def row(name: str, state: State, has: str = "v1.4.0", **more: object) -> Row:
    values: dict[str, object] = {"template": "t", "recorded": has, "target": "v1.4.0", **more}
    return Row(name, f"/services/{name}", ("payments", "core")[: len(name) % 3], state, **values)  # type: ignore[arg-type]


def rows() -> list[Row]:
    found = [row(f"calm-{number}-svc", State.CURRENT) for number in range(12)]
    found += [
        row("billing-svc", State.OUTDATED, "v1.3.0", behind=1, branches=("dockyard/v1.4.0",)),
        row(
            "mail-svc",
            State.OUTDATED,
            "v1.1.0",
            behind=3,
            drift=(("Makefile", "modified"), ("tox.ini", "deleted")),
            new_questions=(Question("region", HOSTILE, is_given=False, help=HOSTILE),),
        ),
        row(
            "orders-svc",
            State.BLOCKED,
            "v1.2.0",
            behind=2,
            drift=(("Makefile", "modified"),),
            conflicts=TORN,
        ),
        row(
            "stock-svc",
            State.ERROR,
            "",
            target="",
            message="cannot reach the template at git.example.com: no route. Check the network.",
        ),
        row(HOSTILE, State.FAILED, "v1.3.0", behind=1, message=HOSTILE),
        row("deep-svc", State.CURRENT, drift=((LONG, "modified"),)),
    ]
    return found


def histories() -> dict[str, list[Release]]:
    found = {}
    for number in range(18):
        since = [
            NOW - timedelta(days=200 - number * 5 - 40 * step) for step in range(1 + number % 5)
        ]
        found[f"{number}"] = [
            Release(f"v1.{step}.0", moment) for step, moment in enumerate(sorted(since))
        ]
    return found


@pytest.fixture
def written(tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(page(Roster(Path("/srv/acme"), ()), rows(), histories(), NOW), encoding="utf-8")
    return file


def test_the_page_asks_for_nothing_and_runs_its_own_script_only(written: Path) -> None:
    text = written.read_text(encoding="utf-8")

    assert not re.search(
        r"(?:src|href)\s*=|url\(|@import|https?://",
        text.replace("img src=x", "").replace("&lt;", "<"),
    )
    assert text.count("<script") == text.count("</script") == 1
    assert "default-src 'none'" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_a_browser_shows_it_without_complaint_or_overflow(
    written: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    try:
        with chromium() as browser:
            browser.open(written, width, dark=dark)
            scroll = browser.evaluate("document.documentElement.scrollWidth")
            picture = browser.screenshot()
            names = browser.evaluate(
                "[...document.querySelectorAll('tbody th')].map((each) => each.firstChild.data)"
            )
            hostile = browser.evaluate(
                "document.querySelectorAll('img, iframe, tbody script').length"
            )
            browser.evaluate(
                "const words = document.getElementById('words'); words.value = 'orders';"
                "words.dispatchEvent(new Event('input'))"
            )
            left = browser.evaluate(
                f"{ROWS}.filter((each) => !each.hidden).map((each) => each.dataset.state)"
            )
            none_left = browser.evaluate("document.getElementById('count').textContent")
            browser.evaluate(
                "words.value = ''; words.dispatchEvent(new Event('input'));"
                "for (const _ of [1, 2]) document.querySelectorAll('thead button')[4].click()"
            )
            behind = browser.evaluate(f"{ROWS}.map((each) => each.cells[4].dataset.key)")
            complaints = browser.complaints()
    except MissingProgramError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    (tmp_path / f"report-{width}.png").write_bytes(picture)

    assert complaints == []
    assert scroll <= width
    assert picture.startswith(b"\x89PNG")
    first = ["orders-svc", "stock-svc", names[2].strip(), "billing-svc", "mail-svc", "deep-svc"]
    assert [name.strip() for name in names] == first + [
        f"calm-{number}-svc" for number in range(12)
    ]
    assert hostile == 0
    assert (left, none_left) == (["blocked"], "1 of 18")
    assert behind == sorted(behind, key=int, reverse=True)
    assert behind[0] == "3"


def test_the_command_writes_the_whole_fleet(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path
) -> None:
    calm = fleet.add("calm-svc")
    fleet.add("torn-svc", IN_CONFLICT)
    fleet.add("drifted-svc", DRIFTED)
    (fleet.add("broken-svc").root / ".copier-answers.yml").write_text("[")
    fleet.release()
    dockyard("update", calm.root)
    git(calm.root, "merge", "--quiet", "dockyard/v1.1.0")
    file = tmp_path / "fleet.html"

    ran = dockyard("fleet", "report", fleet.folder, "--html", file, "--jobs", "1")

    text = file.read_text()
    assert (ran.code, ran.out) == (0, f"{file} is there: 4 services.\n")
    for word in (
        "calm-svc",
        "torn-svc",
        "drifted-svc",
        "broken-svc",
        "Makefile",
        "v1.0.0 <",
        "v1.1.0 <",
    ):
        assert word in text
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == []


def test_where_it_cannot_be_written_it_says_so(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path
) -> None:
    fleet.add("a-svc")
    ran = dockyard("fleet", "report", fleet.folder, "--html", tmp_path / "none" / "fleet.html")
    assert ran.code == 2
    assert "choose another file with --html" in ran.err


def test_areas_of_the_chart_lie_upon_each_other() -> None:
    day = timedelta(days=1)
    found = timeline(
        [[(NOW - 10 * day, "v1.9"), (NOW - 5 * day, "v1.10")], [(NOW - 10 * day, "v1.9")]], NOW
    )

    assert found is not None
    assert [(area.version, area.now) for area in found.areas] == [("v1.10", 1), ("v1.9", 1)]
    half, whole = WIDTH / 2, HEIGHT / 2
    assert f"{half:.1f},{whole:.1f}" in found.areas[0].points
    assert (found.most, found.since) == (2, NOW - 10 * day)


def test_many_versions_are_one_that_is_older() -> None:
    found = timeline([[(NOW - timedelta(days=1), f"v{number}")] for number in range(12)], NOW)

    assert found is not None
    assert [(area.version, area.now) for area in found.areas][-2:] == [("v4", 1), (OLDER, 4)]
    assert timeline([[]], NOW) is None
