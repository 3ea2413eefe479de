"""Two spellings of one address are one template."""

from pathlib import Path

import pytest

from dockyard.rendering.source import Source, is_same

SAME = [
    "https://forge.example/platform/template.git",
    "https://forge.example/platform/template",
    "https://Forge.example/platform/template/",
    "https://forge.example:443/platform/template.git",
    "ssh://git@forge.example/platform/template.git",
    "ssh://git@forge.example:22/platform/template",
    "git@forge.example:platform/template.git",
    "forge.example:platform/template",
]
OTHERS = [
    "https://forge.example/platform/templates.git",
    "https://forge.example/team/template.git",
    "https://other.example/platform/template.git",
    "git@forge.example:template.git",
]


def source(url: str) -> Source:
    return Source(url, url, Path("mirror"), "HEAD", has_worktree=False)


@pytest.mark.parametrize("url", SAME)
def test_the_same_repository_in_another_spelling(url: str) -> None:
    assert is_same(source(SAME[0]), source(url))


@pytest.mark.parametrize("url", OTHERS)
def test_another_repository(url: str) -> None:
    assert not is_same(source(SAME[0]), source(url))
