"""A server that does not answer is asked once, given up in time, and told where it matters."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.generator.fleet.conftest import Fleet, rows, states
from tests.generator.fleet.test_fleet_interrupted import is_running, until
from tests.generator.lab import Dockyard, git

ELSEWHERE = "git@git.example.com:acme/{}.git"
Ssh = Callable[[str], Path]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    """Let git use a fake ssh that notes its process, then runs a command; gives the notes' file."""

    def use(then: str) -> Path:
        script, pids = tmp_path / "ssh", tmp_path / "pids"
        script.write_text(f"#!/bin/sh\necho $$ >> {pids}\n{then}\n")
        script.chmod(0o755)
        monkeypatch.setenv("GIT_SSH_COMMAND", str(script))
        monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
        return pids

    return use


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKYARD_NETWORK_TIMEOUT", "2")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_template_that_does_not_answer_is_asked_once(
    dockyard: Dockyard, fleet: Fleet, ssh: Ssh, jobs: str
) -> None:
    pids = ssh("echo no route >&2; exit 255")
    recorded = f"_src_path: {ELSEWHERE.format('standard')}\n_commit: v1.0.0\n"
    for name in ("a-svc", "b-svc", "c-svc"):
        fleet.add(name, {".copier-answers.yml": recorded})
    fleet.add("well-svc")

    ran = dockyard("fleet", "status", fleet.folder, "--jobs", jobs)

    assert ran.code == 1
    assert "4 services: 1 current, 3 error" in ran.out
    assert ran.out.count("cannot reach the template") == 3
    assert "no route" in ran.out
    assert len(pids.read_text().split()) == 1


@pytest.mark.usefixtures("impatient")
def test_what_hangs_is_given_up_and_its_programs_end(
    dockyard: Dockyard, fleet: Fleet, ssh: Ssh
) -> None:
    pids = ssh("trap '' TERM; while :; do sleep 600; done")
    fleet.add("well-svc")
    (fleet.folder / "fleet.toml").write_text(
        f'[[services]]\npath = "well-svc"\n[[services]]\nurl = "{ELSEWHERE.format("b-svc")}"\n'
    )

    found = rows(dockyard, "status", fleet.folder, code=1)

    assert states(found) == {"well-svc": "current", "b-svc": "error"}
    assert "it did not end within 2 s (DOCKYARD_NETWORK_TIMEOUT sets" in found["b-svc"]["message"]
    for pid in pids.read_text().split():
        until(lambda pid=pid: not is_running(int(pid)))


@pytest.mark.usefixtures("impatient")
def test_a_push_that_hangs_is_given_up_and_done_by_the_next_run(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fleet.add("a-svc")
    bare = tmp_path / "a-svc.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(made.root), str(bare))
    git(made.root, "remote", "add", "origin", str(bare))
    hook = bare / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexec sleep 600\n")
    hook.chmod(0o755)
    fleet.release()

    refused = rows(dockyard, "update", fleet.folder, "--push", code=1)["a-svc"]

    assert refused["state"] == "error"
    assert "cannot be pushed: it did not end within 2 s" in refused["message"]
    hook.unlink()
    monkeypatch.delenv("DOCKYARD_NETWORK_TIMEOUT")
    assert states(rows(dockyard, "update", fleet.folder, "--push", code=0)) == {"a-svc": "updated"}


@pytest.mark.parametrize("said", ["soon", "0", "-3", "nan", "inf"])
def test_a_time_that_is_none_is_refused(
    dockyard: Dockyard, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    fleet.add("a-svc")
    monkeypatch.setitem(os.environ, "DOCKYARD_NETWORK_TIMEOUT", said)

    ran = dockyard("fleet", "status", fleet.folder)

    assert ran.code == 2
    assert f"DOCKYARD_NETWORK_TIMEOUT={said!r} is not a duration" in ran.err
