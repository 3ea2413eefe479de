"""The image of a rendered service: built by its Makefile, run as in a cluster, inspected.

Skipped where that cannot be done, unless DOCKYARD_REQUIRE_IMAGE is set: then it fails.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from uv import find_uv_bin

from tests.brokers.binaries import MissingProgramError, find
from tests.brokers.nats import nats
from tests.brokers.process import Server
from tests.e2e.publishers import SIGNED_UP, bare_publisher, signed_up
from tests.e2e.replicas import Replica
from tests.image.bases import PYTHON_IMAGE, UV_CACHE, UV_IMAGE, Buildah, build_bases
from tests.image.container import Image, first_process, missing
from tests.template import lab
from tests.waiting import PATIENCE_WITH_PROCESSES as PATIENCE
from tests.waiting import until

TAG = "registry.example.com/acme/billing-svc"
TEMPLATE_VERSION = "v1.2.3"
MEGABYTE = 1_000_000
KEPT_OUT = ("src/billing_svc/.env", "src/billing_svc/signing.key", "src/.venv/pyvenv.cfg")

pytestmark = pytest.mark.timeout(
    900
)  # the first test waits for the bases and two builds without a cache


@dataclass(frozen=True)
class Built:
    """Two images of one commit, the second one built without any layer of the first."""

    commit: str
    first: Image
    second: Image


@dataclass
class Container(Replica):
    """A replica that runs the image in `folder`."""

    image: Image | None = None

    def __post_init__(self) -> None:
        assert self.image is not None
        env = {
            **self.env,
            "CHASSIS_HTTP_PORT": str(self.http_port),
            "CHASSIS_HTTP_HOST": "127.0.0.1",
        }
        self.server = Server(self.image.started(env), self.ready, self.log)


def not_here(reason: str) -> NoReturn:
    """Skip, or fail where the image has to be tested."""
    if os.environ.get("DOCKYARD_REQUIRE_IMAGE"):
        pytest.fail(
            f"DOCKYARD_REQUIRE_IMAGE is set, and the image cannot be tested: {reason}",
            pytrace=False,
        )
    pytest.skip(reason)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    if (reason := missing()) is not None:
        not_here(reason)
    try:
        program = find("buildah")
    except MissingProgramError as error:
        not_here(str(error))
    folder = tmp_path_factory.mktemp("buildah")
    yield Buildah(program, folder)
    shutil.rmtree(folder)  # hundreds of megabytes


@pytest.fixture(scope="module")
def built(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Built:
    build_bases(buildah)
    folder = tmp_path_factory.mktemp("image")
    template = folder / "template"
    template.mkdir()
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")
    lab.git(template, "tag", TEMPLATE_VERSION)
    service = lab.copy(
        template,
        folder / "billing-svc",
        service_name="billing-svc",
        bus="nats",
        owner="team-billing",
    )
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in {"VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL"}
    }
    env |= {
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
        "TMPDIR": str(buildah.folder),
    }
    uv = find_uv_bin()
    lab.run(["make", "contracts", f"UV={uv}"], service, env)
    commit = lab.commit_all(service, "generated code")
    for path in KEPT_OUT:
        (service / path).parent.mkdir(exist_ok=True)
        (service / path).write_text("not for the image")
    cache = lab.run([uv, "cache", "dir"], service, env).strip()
    arguments = f"--isolation chroot --pull-never --no-cache --volume {cache}:{UV_CACHE}"
    arguments += f" --build-arg PYTHON_IMAGE={PYTHON_IMAGE} --build-arg UV_IMAGE={UV_IMAGE}"
    command = [
        "make",
        "image",
        f"UV={uv}",
        f"DOCKER={' '.join(buildah.command)}",
        f"IMAGE_ARGS={arguments}",
    ]
    images = []
    for version in ("1.0", "1.1"):
        lab.run([*command, f"VERSION={version}"], service, env)
        images.append(image_of(buildah, f"{TAG}:{version}"))
    return Built(commit, *images)


@pytest.fixture(scope="module")
def image(built: Built) -> Image:
    return built.first


def image_of(buildah: Buildah, tag: str) -> Image:
    config = json.loads(buildah("inspect", "--type", "image", tag))["OCIv1"]["config"]
    return Image(
        root=Path(buildah("mount", buildah("from", "--pull-never", tag))),
        entrypoint=config["Entrypoint"],
        command=config.get("Cmd", []),
        user=config["User"],
        folder=config["WorkingDir"],
        variables=dict(pair.split("=", 1) for pair in config["Env"]),
        labels=config.get("Labels") or {},
    )


def _files(image: Image) -> dict[str, str]:
    """A digest for each file of `image`, and where links point."""
    paths = [path for path in image.root.rglob("*") if path.is_symlink() or path.is_file()]
    return {
        str(path.relative_to(image.root)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / MEGABYTE


def test_where_the_image_is_required_a_reason_to_skip_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DOCKYARD_REQUIRE_IMAGE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no root"):
        not_here("no root")
    monkeypatch.setenv("DOCKYARD_REQUIRE_IMAGE", "1")
    with pytest.raises(pytest.fail.Exception, match="cannot be tested: no root"):
        not_here("no root")


async def test_it_handles_an_event_and_drains_on_a_root_file_system_that_nobody_can_write_to(
    image: Image, tmp_path: Path
) -> None:
    with nats(tmp_path / "nats") as broker:
        service = Container(
            tmp_path, {"CHASSIS_BUS_URL": broker.url}, tmp_path / "log", image=image
        )
        service.server.start()
        try:
            process = first_process(service.server)
            _confined(process)
            async with bare_publisher(broker.url) as publisher:
                await publisher.publish("e-1", signed_up("ada"))
            done = f'messaging_client_consumed_messages_total{{outcome="done",type="{SIGNED_UP}"}}'
            until(lambda: service.metric(done) == 1, "the event being handled")
            process.terminate()
            assert service.server._running().wait(PATIENCE) == 0
        finally:
            service.server.kill()
    assert '"drained"' in (tmp_path / "log").read_text()


def _confined(process: psutil.Process) -> None:
    """PID 1 is the service. Its user has no name and no right; its root is mounted read-only."""
    proc = Path(f"/proc/{process.pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    assert status["NSpid"].split()[-1] == "1"
    assert process.cmdline() == ["/app/.venv/bin/python", "/app/.venv/bin/billing-svc", "run"]
    assert set(status["Uid"].split() + status["Gid"].split()) == {"10001"}
    assert (status["Groups"].strip(), int(status["CapEff"], 16)) == ("", 0)
    (root,) = [
        line.split()
        for line in (proc / "mountinfo").read_text().splitlines()
        if line.split()[4] == "/"
    ]
    assert "ro" in root[5].split(",")


def test_not_even_root_can_write_into_the_running_container(image: Image) -> None:
    for path in ("/probe", "/app/probe", "/app/.venv/probe"):
        done = lab.attempt(image.entered("0:0", {}, ["touch", path]), image.root)
        assert done.returncode != 0
        assert "Read-only file system" in done.stdout


def test_the_service_can_write_nowhere_even_where_the_root_is_writable(image: Image) -> None:
    uid = int(image.user.partition(":")[0])
    assert uid >= 10_000
    mine = [
        path
        for path in image.root.rglob("*")
        if not path.is_symlink() and (path.lstat().st_uid == uid or path.lstat().st_mode & 0o002)
    ]
    assert [path for path in mine if path.relative_to(image.root) != Path("tmp")] == []


def test_it_says_what_it_is(built: Built) -> None:
    prefix = "org.opencontainers.image"
    assert built.first.labels.items() >= {
        (f"{prefix}.title", "billing-svc"),
        (f"{prefix}.authors", "team-billing"),
        (f"{prefix}.version", "1.0"),
        (f"{prefix}.revision", built.commit),
        ("dockyard.template.version", TEMPLATE_VERSION),
    }


def test_nothing_to_install_or_compile_with_is_inside(image: Image) -> None:
    names = {path.name for path in image.root.rglob("*")}
    assert names & {"python", "billing-svc", "chassis", "nats"} == {
        "python",
        "billing-svc",
        "chassis",
        "nats",
    }
    unwanted = re.compile(
        r"(pip3?|uvx?|ensurepip|hatchling|pytest|mypy|ruff|buf|nats-server|gcc|cc|make|git)(-\d.*)?"
    )
    assert sorted(name for name in names if unwanted.fullmatch(name)) == []


def test_only_what_it_runs_is_inside(image: Image) -> None:
    inside = {str(path.relative_to(image.root)) for path in (image.root / "app").iterdir()}
    assert inside == {"app/.venv"}
    names = {path.name for path in image.root.rglob("*")}
    assert names.isdisjoint(
        {"test_handlers.py", ".git", ".env", "signing.key", "pyproject.toml", "uv.lock"}
    )
    (package,) = (image.root / "app/.venv/lib").glob("python*/site-packages/billing_svc")
    assert not package.is_symlink()
    assert not (package / ".venv").exists()


def test_the_same_commit_gives_the_same_files(built: Built) -> None:
    first, second = _files(built.first), _files(built.second)
    assert len(first) > 1000
    assert first == second


def test_it_is_small(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    service = _megabytes(image.root / "app")
    with capsys.disabled():
        sys.stdout.write(
            f"\nimage: {service:.0f} MB on top of the base,"
            f" {_megabytes(image.root):.0f} MB with a stand-in\n"
        )
    assert service < 100
