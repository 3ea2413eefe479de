"""Every page is reachable, and every link of a page leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DECISIONS = DOCS / "decisions"
PAGES = sorted({*ROOT.glob("*.md"), *DOCS.rglob("*.md")})

_LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[tuple[Path, str]]:
    """What `page` links to in this repository: the file, and the heading's anchor or nothing."""
    prose = _FENCED.sub("", page.read_text("utf-8"))
    return [
        ((page.parent / found["path"]).resolve() if found["path"] else page, found["anchor"] or "")
        for found in _LINK.finditer(prose)
    ]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as they are made of their words."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [
        f"{target}#{anchor}" if anchor else str(target)
        for target, anchor in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            todo += [
                target for target, _ in links(page) if target.suffix == ".md" and target.is_file()
            ]
    assert set(DOCS.rglob("*.md")) - reached == set()


def test_every_decision_is_listed_once_and_in_order() -> None:
    pages = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    listed = re.findall(
        r"^\| \[(\d{4})\]\(([^)]+)\) \|", (DECISIONS / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert [name for _, name in listed] == pages
    assert [number for number, _ in listed] == [name[:4] for name in pages]


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[0-9]*.md")), ids=lambda page: page.stem)
def test_a_decision_says_what_led_to_it_and_what_follows(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text("utf-8"), re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences"]
    assert page.read_text("utf-8").startswith(f"# {page.name[:4]} ")
