"""What a service says of itself to reviewers, agents and the catalog is true."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.template import lab

LONGEST = {"service_name": "b" * 36 + "-svc", "owner": "o" * 40, "organisation": "z_" * 14 + "zz"}


def catalog(folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((folder / "catalog-info.yaml").read_text("utf-8")))


def paths_named_in(text: str) -> set[str]:
    return {
        path
        for path in re.findall(r"`([\w./*-]+)`", text)
        if "/" in path or re.search(r"\.(py|md|mk|toml|lock)$", path)
    }


@pytest.mark.parametrize("answers", [{}, LONGEST], ids=["defaults", "longest"])
def test_the_catalog_takes_every_name_and_finds_what_it_refers_to(
    render: lab.Render, answers: dict[str, str]
) -> None:
    folder = render(**answers)
    component, api = catalog(folder)
    assert (component["kind"], api["kind"]) == ("Component", "API")
    names = [component["metadata"]["name"], api["metadata"]["name"], *component["metadata"]["tags"]]
    names += [
        document["spec"][field] for document in (component, api) for field in ("owner", "system")
    ]
    for name in names:  # the rule of Backstage's catalog for names
        assert re.fullmatch(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*", name), name
        assert len(name) <= 63
    assert component["spec"]["providesApis"] == [api["metadata"]["name"]]
    contract = folder / api["spec"]["definition"]["$text"]
    assert "message SignupHandled" in contract.read_text("utf-8")


def test_the_owner_is_asked_to_review_everything(render: lab.Render) -> None:
    lines = (
        (render(owner="team-payments", organisation="big_shop") / ".github/CODEOWNERS")
        .read_text("utf-8")
        .splitlines()
    )
    assert [line for line in lines if not line.startswith("#")] == ["* @big-shop/team-payments"]


def test_agents_are_told_of_commands_and_files_that_are_there(rendered: Path) -> None:
    page = (rendered / "AGENTS.md").read_text("utf-8")
    targets = set(
        re.findall(r"^([a-z-]+):", (rendered / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    named = set(re.findall(r"`make ([a-z-]+)`", page))
    assert len(named) > 5
    assert named <= targets
    made_later = {"gen/", "uv.lock", "local.mk", "tests/conftest.py", "handlers.py"}
    there = paths_named_in(page) - made_later
    assert {"chassis/", "src/billing_svc/", "deploy/values-*.yaml"} <= there
    assert [path for path in there if not list(rendered.glob(path))] == []


def test_agents_are_told_the_rooms_that_the_one_list_has(rendered: Path) -> None:
    page = (rendered / "AGENTS.md").read_text("utf-8")
    edit, never = re.findall(
        r"^- \*\*(?:The team's|Managed).*?(?=^- \*\*)", page, re.MULTILINE | re.DOTALL
    )
    for path in paths_named_in(edit):
        assert path == "handlers.py" or lab.is_yours(path.rstrip("/").replace("*", "dev")), path
    assert not lab.is_yours("chassis")
    assert {"chassis/", "local.mk", "tests/conftest.py"} == paths_named_in(never)


def test_security_says_how_to_verify_what_the_release_signs(render: lab.Render) -> None:
    folder = render(image_registry="ghcr.io/acme")
    page = (folder / "SECURITY.md").read_text("utf-8")
    release = (folder / ".github/workflows/release.yml").read_text("utf-8")
    assert "cosign verify ghcr.io/acme/billing-svc@" in page
    assert "IMAGE: ghcr.io/acme/billing-svc\n" in release
    assert "--type spdxjson" in page
    assert "--type spdxjson" in release


def test_generated_files_are_folded_in_reviews_and_lines_end_alike_everywhere(
    service: Path,
) -> None:
    shown = lab.git(
        service,
        "check-attr",
        "linguist-generated",
        "eol",
        "--",
        "gen/acme/x_pb2.py",
        "uv.lock",
        "src/x.py",
    )
    assert "gen/acme/x_pb2.py: linguist-generated: set" in shown
    assert "uv.lock: linguist-generated: set" in shown
    assert "src/x.py: linguist-generated: unspecified" in shown
    assert "src/x.py: eol: lf" in shown
