"""The command's words, exit codes and files, without a server."""

import re
import stat
from pathlib import Path

import pytest

from dockyard.servers import needs, passwords
from dockyard.servers.address import read
from dockyard.servers.clients import NoClient, client_of
from dockyard.servers.findings import Report
from tests.brokers.process import free_port
from tests.generator.servers.command import SERVICE, bootstrap, dockyard


def test_a_check_says_what_where_and_how_to_mend_it_and_exits_with_1() -> None:
    url = f"redis://admin:s3cret@127.0.0.1:{free_port()}/0"
    done = dockyard("check", url, "--service", SERVICE)
    shown = url.replace("admin:s3cret@", "")
    assert done.returncode == 1
    first, fault, mend = done.stdout.splitlines()
    assert first == f"redis at {shown} is not good: it gave no answer"
    assert fault.startswith("  fault: server: it cannot be used: ")
    assert mend == "    mend: mend the URL, its login or the network"
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "amqp://u:s3cret@h", "--service", SERVICE], "give the management API"),
        (["check", "s3cret", "--service", SERVICE], "begins with none of the known schemes"),
        (["check", "redis://h", "--service", "Billing"], "'Billing' is not a service name"),
        (["bootstrap", "--service", SERVICE, "--passwords", "p"], "there is nothing to make"),
    ],
)
def test_a_mistake_is_a_sentence_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = dockyard(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "s3cret" not in done.stderr


def test_passwords_are_made_once_and_are_for_their_owner_alone(tmp_path: Path) -> None:
    path, files = tmp_path / "passwords", tmp_path / "files"
    path.write_text("# mine\nbilling-svc=chosen\n")
    path.chmod(0o600)
    bootstrap(passwords=path, more=("--into", str(files)))
    first = passwords.provide(path, ())
    assert first["billing-svc"] == "chosen"
    assert first.keys() == {"billing-svc", "billing_svc", "billing_svc_migrate", "bootstrap"}
    bootstrap(passwords=path, more=("--into", str(files)))
    assert passwords.provide(path, ()) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = "".join(file.read_text("utf-8") for file in files.iterdir())
    assert not [secret for secret in first.values() if secret in written]


def test_a_file_of_passwords_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("billing-svc=p\ns3cret\n")
    with pytest.raises(passwords.BadPasswords, match="passwords:2 is not of the form") as refused:
        passwords.provide(tmp_path / "passwords", [SERVICE])
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(("skew", "way"), [(3.5, "3.5 s ahead of"), (-90.0, "90.0 s behind")])
def test_a_clock_that_is_wrong_is_a_fault(skew: float, way: str) -> None:
    report = Report("redis", "redis://h")
    report.clock(skew)
    (fault,) = report.findings
    assert fault.what == f"it is {way} the clock of this machine"


def test_a_clock_that_is_nearly_right_is_none() -> None:
    report = Report("redis", "redis://h")
    report.clock(1.5)
    assert report.good


@pytest.mark.parametrize(("version", "good"), [("2.11.9", False), ("2.12.0", True), ("3.0", True)])
def test_a_version_that_is_too_old_is_a_fault(version: str, good: bool) -> None:
    report = Report("nats", "nats://h")
    report.version(version, (2, 12), "NATS")
    assert report.good is good


def test_an_address_shows_no_login() -> None:
    address = read("nats://a:s3cret@h:4222,nats://a:s3cret@i:4222")
    assert "s3cret" not in repr(address) + address.shown + address.masked("refused: s3cret")
    assert address.user == "a"


def test_a_client_that_is_not_installed_is_named_with_what_to_install() -> None:
    with pytest.raises(NoClient, match="package nowhere is not installed: `make setup` in"):
        client_of("nowhere.at.all")


def test_a_mend_of_rabbitmq_is_a_pattern_that_covers_the_names_and_no_others() -> None:
    for right, names in needs.rabbitmq_names("billing-svc").items():
        pattern = needs.rabbitmq_rights("billing-svc")[right]
        assert all(re.search(pattern, name) for name in names)
        assert not any(re.search(pattern, f"{name}2") for name in names if "." not in name)
        assert not re.search(pattern, "welcome-svc")
