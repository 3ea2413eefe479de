"""A certificate that signs itself, for servers of the tests."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.binaries import find


@dataclass(frozen=True, slots=True)
class Certificate:
    file: Path
    key: Path

    @property
    def ends(self) -> float:
        """Unix time of its last second."""
        command = [find("openssl"), "x509", "-enddate", "-noout", "-in", self.file]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))


def make(folder: Path, days: int) -> Certificate:
    """Valid for so many days from now, in place of an earlier one in the folder."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command: list[str | Path] = [find("openssl"), "req", "-x509", "-nodes", "-days", str(days)]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"]
    command += ["-keyout", made.key, "-out", made.file]
    subprocess.run(command, check=True, capture_output=True)
    return made
