"""Where a server comes from: programs first, then a container, then as root a package."""

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from chassis.tools.dev import origins
from chassis.tools.dev.nats import NATS
from chassis.tools.dev.postgres import POSTGRES
from chassis.tools.dev.rabbitmq import RABBITMQ
from chassis.tools.dev.redis import REDIS
from chassis.tools.dev.server import Place, Server, ServerMissingError

IMAGE = "docker.io/library/redis:8"
ABSENT = replace(REDIS, programs={"absent-server": ()}, program=REDIS.program)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "acme/redis"
    folder.mkdir(parents=True)
    return Place(folder, 12_345, "hidden")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH that holds what a test puts there, and the programs of every machine."""
    made = tmp_path / "bin"
    made.mkdir()
    monkeypatch.setenv("PATH", f"{made}")
    return made


def put(path: Path, name: str, script: str) -> Path:
    program = path / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_program_in_path_comes_before_a_container(path: Path, place: Place) -> None:
    put(path, "docker", "exit 0")
    redis = put(path, "own-redis", "exit 0")
    server = replace(
        REDIS,
        programs={"own-redis": ()},
        program=lambda place, found: REDIS.program(place, {"redis-server": found["own-redis"]}),
    )
    launch = origins.launch(server, place, IMAGE)
    assert launch.command == [str(redis), str(place.folder / "redis.conf")]
    assert "hidden" not in " ".join(launch.command)
    assert (place.folder / "redis.conf").stat().st_mode & 0o077 == 0


def test_a_runtime_that_does_not_answer_is_passed_over(path: Path, place: Place) -> None:
    put(path, "docker", "exit 1")
    podman = put(path, "podman", "exit 0")
    launch = origins.launch(ABSENT, place, IMAGE)
    assert launch.command[0] == str(podman)
    assert launch.origin == f"{IMAGE} in podman"


@pytest.mark.parametrize(
    ("server", "end"),
    [
        (NATS, [IMAGE, "--jetstream", "--store_dir=/data"]),
        (RABBITMQ, [IMAGE]),
        (POSTGRES, [IMAGE]),
    ],
)
def test_a_container_is_removed_and_its_volume_stays(
    place: Place, server: Server, end: list[str]
) -> None:
    launch = origins.contained(server, place, "docker", IMAGE)
    name = launch.clear[-1]
    container = server.container
    volume = name[: -len("-12345678")]
    assert re.fullmatch(rf"dockyard-acme-[0-9a-f]{{8}}-{server.kind}", volume)
    assert launch.command == [
        *("docker", "run", "--rm", "--name", name, "--hostname", server.kind),
        *("--publish", f"127.0.0.1:12345:{container.port}"),
        *("--volume", f"{volume}:{container.data}"),
        *(word for variable in container.env for word in ("--env", variable)),
        *end,
    ]
    assert launch.clear == ["docker", "rm", "--force", name]


@pytest.mark.parametrize("server", [RABBITMQ, REDIS, POSTGRES])
def test_a_password_of_a_container_is_in_no_command_line(place: Place, server: Server) -> None:
    launch = origins.contained(server, place, "docker", IMAGE)
    assert "hidden" in launch.env.values()
    assert "hidden" not in " ".join([*launch.command, *launch.clear])


def test_as_root_a_missing_program_is_installed_without_its_service(
    path: Path, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    asked = tmp_path / "asked"
    put(
        path,
        "apt-get",
        f'echo "$RUNLEVEL $@" >> {asked}\n'
        f'case "$1" in install) /bin/cp "$0" {path}/absent-server;; esac',
    )
    server = replace(
        ABSENT,
        program=lambda place, found: REDIS.program(place, {"redis-server": found["absent-server"]}),
    )
    launch = origins.launch(server, place, IMAGE)
    assert launch.command[0] == str(path / "absent-server")
    assert asked.read_text().splitlines() == [
        "1 update -qq",
        "1 install -y -qq --no-install-recommends redis-server",
    ]


def test_a_package_that_cannot_be_had_is_told_with_apts_words(
    path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    put(path, "apt-get", "echo no network >&2; exit 100")
    with pytest.raises(ServerMissingError, match="apt-get update -qq failed: no network"):
        origins.launch(ABSENT, place, None)


def test_without_any_of_them_the_message_says_what_to_do(
    path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServerMissingError) as refused:
        origins.launch(ABSENT, place, IMAGE)
    assert str(refused.value) == (
        "absent-server not found and no container runtime answers: install Redis, "
        "as root on Debian or Ubuntu 'redis-server', or start docker or podman"
    )


def test_the_password_of_redis_in_a_container_comes_by_its_input(tmp_path: Path) -> None:
    """The shell's line of the container, with a redis-server that shows what it is given."""
    put(tmp_path, "redis-server", 'echo "$@"; /bin/cat')
    done = subprocess.run(
        list(REDIS.container.arguments),
        env={"PATH": f"{tmp_path}:/bin", "PASSWORD": "hidden"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "- --appendonly yes --maxmemory-policy noeviction",
        "requirepass hidden",
    ]
