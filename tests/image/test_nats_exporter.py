"""The image of the NATS exporter: built from its Dockerfile, and run as in a cluster."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.brokers.nats import nats
from tests.brokers.process import Server, free_port
from tests.image.bases import PYTHON_IMAGE, Buildah, build_bases
from tests.image.container import Image, first_process
from tests.image.test_image import buildah, image_of  # noqa: F401 - a fixture
from tests.platform.rules import PLATFORM
from tests.waiting import PATIENCE_WITH_PROCESSES as PATIENCE
from tests.waiting import until

EXPORTER = PLATFORM / "nats-exporter"
WITH_PIP = f"{PYTHON_IMAGE}-with-pip"
TAG = "registry.example.com/platform/nats-exporter"

pytestmark = pytest.mark.timeout(900)  # a base and a build without a cache


@pytest.fixture(scope="module")
def image(buildah: Buildah) -> Image:  # noqa: F811 - a fixture
    build_bases(buildah)
    container = buildah("from", "--pull-never", PYTHON_IMAGE)
    buildah("run", "--isolation", "chroot", container, "python", "-m", "ensurepip", "--default-pip")
    index = [f"--env={name}={value}" for name, value in os.environ.items() if name in INDEX]
    if "SSL_CERT_FILE" in os.environ:
        index.append("--env=PIP_CERT=/etc/ssl/certs/ca-certificates.crt")  # the base has it there
    buildah("config", *index, container)
    buildah("commit", "--quiet", "--rm", container, WITH_PIP)
    wheels = [f"--volume={folder}:{folder}" for folder in _folders_of_wheels()]
    buildah(
        *("build", "--isolation", "chroot", "--pull-never", "--no-cache", *wheels),
        *("--build-arg", f"PYTHON_IMAGE={WITH_PIP}", "--tag", TAG, str(EXPORTER)),
    )
    return image_of(buildah, TAG)


INDEX = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST")
"""How this machine finds packages, if not as any other does."""


def _folders_of_wheels() -> Iterator[str]:
    for place in os.environ.get("PIP_FIND_LINKS", "").split():
        if Path(place).is_dir():
            yield place


def test_it_exports_as_nobody_on_a_root_file_system_that_nobody_can_write_to(
    image: Image, tmp_path: Path
) -> None:
    assert image.user == "10001:10001"
    port = free_port()
    with nats(tmp_path, monitored=True) as server:
        options = ["--url", server.monitoring, "--host", "127.0.0.1", "--port", str(port)]
        log = tmp_path / "exporter.log"
        exporter = Server(image.started({}, options), lambda: _metrics(port) is not None, log)
        exporter.start()
        try:
            shown = _metrics(port)
            assert shown is not None
            assert f'nats_up{{url="{server.monitoring}"}} 1.0' in shown
            first_process(exporter).terminate()
            until(lambda: not exporter.alive, "the exporter stopping at SIGTERM", PATIENCE)
        finally:
            exporter.kill()
    assert "Traceback" not in log.read_text("utf-8")


def test_it_holds_the_exporter_and_its_one_dependency(image: Image) -> None:
    installed = {path.name.partition("-")[0] for path in image.root.rglob("*.dist-info")}
    assert installed - {"pip", "setuptools"} == {"prometheus_client"}  # the base has the others
    assert (image.root / "app/nats_exporter/__main__.py").is_file()
    assert not list(image.root.rglob("requirements-dev.txt"))


def _metrics(port: int) -> str | None:
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except (URLError, OSError):
        return None
