"""Stand-ins for the base images of a service, made of this machine's own Python and libraries.

No registry is asked: what a base image has to offer (a root file system, Python in /usr/local, pip,
uv) is at hand here.
Knows buildah and the loader of Linux; knows nothing of services.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

PYTHON_IMAGE = "localhost/stand-in/python"
UV_IMAGE = "localhost/stand-in/uv"
UV_CACHE = "/uv-cache"
"""uv's cache in PYTHON_IMAGE. Mount this machine's cache there, and nothing is downloaded twice."""

_PROGRAMS = ("sh", "rm", "sed", "touch")
_LIBRARIES = (
    "libgcc_s.so.1",
    "libstdc++.so.6",
)  # Debian's smallest image has them, wheels take them for granted
_LEFT_OUT = ("site-packages", "dist-packages", "test", "idlelib", "config-*", "__pycache__")
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Buildah:
    """buildah with a store of its own in `folder`, and no daemon."""

    program: Path
    folder: Path

    @property
    def command(self) -> list[str]:
        store = ["--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")]
        return [str(self.program), *store, "--storage-driver", "vfs"]

    def __call__(self, *arguments: str | Path) -> str:
        """What it said on stdout. Raises RuntimeError with what it said on stderr."""
        command = [*self.command, *arguments]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"buildah {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout.strip()


def build_bases(buildah: Buildah) -> None:
    """Make PYTHON_IMAGE and UV_IMAGE in the store of `buildah`."""
    with tempfile.TemporaryDirectory(dir=buildah.folder) as name:
        root = Path(name)
        _lay_down_python(root)
        variables = [f"{key}={value}" for key, value in _variables(root).items()]
        _commit(
            buildah, root, PYTHON_IMAGE, *(word for each in variables for word in ("--env", each))
        )
    with tempfile.TemporaryDirectory(dir=buildah.folder) as name:
        shutil.copy2(find_uv_bin(), Path(name) / "uv")
        _commit(buildah, Path(name), UV_IMAGE)


def _lay_down_python(root: Path) -> None:
    """Fill `root` with a shell, this Python with its pip in /usr/local, and their libraries."""
    for folder in ("app", "dev", "etc", "proc", "root", "tmp", "usr/local/bin", "usr/local/lib"):
        (root / folder).mkdir(parents=True)
    programs = [Path(found) for name in _PROGRAMS if (found := shutil.which(name))]
    for program in programs:
        _copy(program.resolve(), root / "usr/bin" / program.name)
    (root / "bin").symlink_to("usr/bin")
    interpreter = Path(sys.executable).resolve()
    library = Path(os.__file__).resolve().parent
    _copy(interpreter, root / "usr/local/bin" / _PYTHON)
    for alias in ("python", "python3"):
        (root / "usr/local/bin" / alias).symlink_to(_PYTHON)
    copied = root / "usr/local/lib" / _PYTHON
    shutil.copytree(library, copied, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    _add_pip(root, copied)
    libraries = _libraries(
        [*programs, interpreter, Path(find_uv_bin()), *(library / "lib-dynload").glob("*.so")]
    )
    for path in libraries:
        _copy(path, root / str(path).lstrip("/"))


def _add_pip(root: Path, library: Path) -> None:
    """A pip as the official images have it, for the Dockerfile to remove."""
    package = library / "site-packages/pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    pip = root / "usr/local/bin/pip"
    pip.write_text("#!/usr/local/bin/python\n")
    pip.chmod(0o755)


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """The shared libraries that `programs` load, and the ones that every base has beside libc."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    loaded = {Path(found) for found in re.findall(r"(?:=> |^\t)(/\S+) \(0x", listed, re.MULTILINE)}
    (libc,) = (path for path in loaded if path.name == "libc.so.6")
    return loaded | {libc.with_name(name) for name in _LIBRARIES}


def _variables(root: Path) -> dict[str, str]:
    """The environment of the base: its library folders, and this machine's package index."""
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "UV_CACHE_DIR": UV_CACHE}
    folders = {f"/{path.parent.relative_to(root)}" for path in root.rglob("libpython*.so*")}
    if folders:
        variables["LD_LIBRARY_PATH"] = ":".join(sorted(folders))
    variables |= {
        name: value
        for name, value in os.environ.items()
        if name.startswith("UV_") and "INDEX" in name
    }
    certificates = os.environ.get("SSL_CERT_FILE")
    if certificates:
        _copy(Path(certificates), root / "etc/ssl/certs/ca-certificates.crt")
        variables["SSL_CERT_FILE"] = "/etc/ssl/certs/ca-certificates.crt"
    return variables


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _commit(buildah: Buildah, root: Path, image: str, *config: str) -> None:
    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, root, "/")
    buildah("config", *config, container)
    buildah("commit", "--quiet", "--rm", container, image)
