"""Renders in the cache are those of plain Copier, however they come about."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import copier
import pytest

from dockyard.answers import Recorded
from dockyard.programs.cache import cache_folder
from dockyard.rendering import copying
from dockyard.rendering.render import render_tree
from dockyard.rendering.render_cache import store
from dockyard.rendering.skeleton import prepare
from dockyard.rendering.template import Template, open_template
from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import Made
from tests.template import lab

ANSWERS = {"service_name": "billing-svc"}
CASES: dict[str, dict[str, str | bytes | None]] = {
    "as it should be": {"template/more.txt": "more\n"},
    "a templated twin of a plain file": {"template/Makefile.jinja": "of {{ owner }}\n"},
    "a name that becomes a plain file's": {"template/{{ 'Make' }}file.jinja": services.LINES},
    "a name that becomes nothing": {"template/{% if owner == 'x' %}never{% endif %}": "never\n"},
    "an include": {"template/inc.txt.jinja": "{% include 'template/Makefile' %}"},
    "the template's commit in a file": {
        "template/version.txt.jinja": "{{ _copier_conf.vcs_ref_hash }}\n"
    },
    "words of Copier outside of Jinja": {
        "template/run.sh.jinja": "sed 's/^_commit: //p' # {{ owner }}\n"
    },
    "a place asked for behind a delimiter in a string": {
        "template/place.txt.jinja": "{{ '%}' ~ (_copier_conf.src_path is defined) }}\n"
    },
    "excluded files": {"template/a.pyc": "x", "template/deep/b.pyc": "x"},
    "ignored files": {
        "template/.gitignore": "*.log\n",
        "template/a.log": "x",
        "template/b.log.jinja": "x",
    },
    "an answers file in a form of its own": {
        "template/{{_copier_conf.answers_file}}.jinja": (
            "# of {{ owner }}\n{{ _copier_answers | to_json }}\n"
        )
    },
    "exclusions by answers": {
        "copier.yml": services.QUESTIONS.replace(
            '"*.pyc"]', "\"{% if owner != 'x' %}old.cfg{% endif %}\"]"
        )
    },
    "other delimiters": {
        "copier.yml": services.QUESTIONS.replace(
            "_envops: {", '_envops: {comment_start_string: "((", '
        ),
        "template/a(( comment #}b.txt": "x\n",
    },
    "line endings by attributes": {
        ".gitattributes": "*.bat text eol=crlf\n",
        "template/a.bat": "one\ntwo\n",
    },
    "a name with spaces and accents": {"template/déjà vu.txt": "x\n"},
}
SEPARABLE = {
    "as it should be",
    "words of Copier outside of Jinja",
    "excluded files",
    "ignored files",
    "a name that becomes nothing",
}


def bare(repository: Path, into: Path, ref: str) -> dict[str, tuple[str, bytes]]:
    """What plain Copier renders and git then takes."""
    copier.run_copy(
        str(repository), into, ANSWERS, vcs_ref=ref, defaults=True, quiet=True, overwrite=True
    )
    lab.commit_all(into, "rendered")
    git(into, "clean", "-fdqX")
    return services.contents(into)


def ours(template: Template, into: Path) -> dict[str, tuple[str, bytes]]:
    """The same from the cache, checked out."""
    rendered = render_tree(template, Recorded(template.source.recorded, "v0", ANSWERS), into.name)
    into.mkdir(parents=True)
    index = into.parent / "index"
    env = {**os.environ, "GIT_INDEX_FILE": str(index)}
    lab.run(
        [
            "git",
            f"--git-dir={store()}",
            f"--work-tree={into}",
            "read-tree",
            "--reset",
            "-u",
            rendered.tree,
        ],
        into,
        env,
    )
    return services.contents(into)


@pytest.mark.parametrize("case", CASES)
def test_a_cached_render_is_what_plain_copier_renders(
    evolving: Repository, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "copier"))
    services.release(evolving, CASES[case], "v1.1.0")
    template = open_template(str(evolving.path), "v1.1.0")

    found = ours(template, tmp_path / "ours/billing-svc")

    assert found == bare(evolving.path, tmp_path / "bare/billing-svc", "v1.1.0")
    assert case not in SEPARABLE or prepare(template) is not None


def test_the_template_of_this_repository_is_separable_and_rendered_as_by_plain_copier(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "copier"))
    checkout = tmp_path / "checkout"
    lab.lay_down_template(checkout)
    lab.commit_all(checkout, "the template")
    git(checkout, "tag", "v1.0.0")
    template = open_template(str(checkout))

    assert ours(template, tmp_path / "ours/billing-svc") == bare(
        checkout, tmp_path / "bare/billing-svc", "v1.0.0"
    )
    assert prepare(template) is not None


def test_a_render_is_made_once(evolving: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    template = open_template(str(evolving.path))
    first = render_tree(template, Recorded("x", "v1.0.0", ANSWERS), "billing-svc")
    monkeypatch.setattr(copying, "copy", lambda *_, **__: pytest.fail("rendered again"))

    assert render_tree(template, Recorded("x", "v1.0.0", ANSWERS), "billing-svc") == first


def test_a_broken_entry_of_the_cache_is_made_anew(evolving: Repository) -> None:
    template = open_template(str(evolving.path))
    first = render_tree(template, Recorded("x", "v1.0.0", ANSWERS), "billing-svc")
    for entry in cache_folder("renders").glob("*.json"):
        entry.write_text("{")

    assert render_tree(template, Recorded("x", "v1.0.0", ANSWERS), "billing-svc") == first


@pytest.mark.parametrize(
    "gone", ["renders/objects.git", "renders/objects.git/*", "renders/*.json", "checkouts/*/*"]
)
def test_a_cache_of_which_a_part_is_deleted_heals(
    dockyard: Dockyard, evolving: Repository, service: Made, home: Path, gone: str
) -> None:
    services.release(evolving, {"template/old.cfg": "newer\n"}, "v1.1.0")
    before = dockyard("update", service.root, "--dry-run", "--json")
    for path in (home / ".cache/dockyard").glob(gone):
        (shutil.rmtree if path.is_dir() else os.unlink)(path)

    after = dockyard("update", service.root, "--dry-run", "--json")

    assert (after.code, after.out) == (0, before.out), after.err


def test_the_users_own_defaults_have_no_say(
    evolving: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.yml").write_text("defaults: {owner: somebody}\n")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(tmp_path / "settings.yml"))

    rendered = render_tree(
        open_template(str(evolving.path)), Recorded("x", "v1.0.0", ANSWERS), "billing-svc"
    )

    assert rendered.answers["owner"] == "platform"


def test_processes_that_render_at_once_do_not_trip_over_each_other(
    evolving: Repository, into: Path, tmp_path: Path
) -> None:
    names = [f"svc-{number}" for number in range(4)]
    for name in names:
        services.lay_down_service(evolving, into / name, "v1.0.0")
    services.release(evolving, {"template/old.cfg": "newer\n"}, "v1.1.0")
    shutil.rmtree(cache_folder("renders"))
    command = [sys.executable, "-m", "dockyard", "update"]

    with ThreadPoolExecutor(len(names)) as pool:
        done = list(
            pool.map(lambda name: lab.attempt([*command, str(into / name)], tmp_path), names)
        )

    assert [(one.returncode, one.stdout) for one in done if one.returncode] == []
