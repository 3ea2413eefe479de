"""Bootstrap and check over several components. Prints nothing."""

from collections.abc import Sequence
from pathlib import Path

from dockyard.errors import DockyardError
from dockyard.servers import (
    address,
    manifests,
    nats,
    needs,
    passwords,
    postgresql,
    rabbitmq,
    redis,
)
from dockyard.servers.address import Address, Unreachable
from dockyard.servers.findings import Report


class NotAService(DockyardError):
    """A name that no service can have, so its rights would be somebody else's."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is not a service name: use kebab-case, such as --service billing-svc."
        )


class NothingToMake(DockyardError):
    """Neither a server nor a folder is given."""

    def __init__(self) -> None:
        super().__init__(
            "there is nothing to make: give the URL of a server, or a folder with --into."
        )


def checked(
    urls: Sequence[str], services: Sequence[str], *, nodes: int | None, retention: int
) -> list[Report]:
    """A report for each URL, in their order. An unreachable server is a fault of its report.

    Raises BadAddress, NotAService, NoClient.
    """
    addresses = _read(urls, services)
    quotas = needs.Quotas(retention=retention)
    return [_checked(each, services, nodes, quotas) for each in addresses]


def _checked(
    at: Address, services: Sequence[str], nodes: int | None, quotas: needs.Quotas
) -> Report:
    try:
        match at.component:
            case "rabbitmq":
                return rabbitmq.check(at, services, nodes)
            case "nats":
                return nats.check(at, services, nodes, quotas)
            case "redis":
                return redis.check(at, services, nodes)
            case "postgresql":
                return postgresql.check(at, services, nodes)
    except Unreachable as error:
        report = Report(at.component, at.shown, ["it gave no answer"])
        report.fault("server", error.why, "mend the URL, its login or the network")
        return report


def bootstrapped(
    urls: Sequence[str],
    services: Sequence[str],
    *,
    passwords: Path,
    into: Path | None,
    nodes: int,
    quotas: needs.Quotas,
    every_replica: Sequence[str] = (),
) -> list[str]:
    """What was made, in words. Raises BadAddress, NotAService, NothingToMake, Unreachable."""
    addresses = _read(urls, services)
    if not addresses and into is None:
        raise NothingToMake
    known = _passwords(passwords, addresses, services, everything=into is not None)
    made = []
    if into is not None:
        made += [
            str(path) for path in manifests.write(into, services, known, quotas, every_replica)
        ]
    for at in addresses:
        match at.component:
            case "rabbitmq":
                lines = rabbitmq.bootstrap(at, services, known, quotas)
            case "nats":
                lines = nats.bootstrap(at, services, quotas, nodes)
            case "redis":
                lines = redis.bootstrap(at, services, known)
            case "postgresql":
                lines = postgresql.bootstrap(at, services, known, quotas)
        made += [f"{at.component}: {line}" for line in lines]
    return made


def _passwords(
    path: Path, addresses: Sequence[Address], services: Sequence[str], *, everything: bool
) -> dict[str, str]:
    """Of the users that will be made, and no others."""
    components = {at.component for at in addresses}
    names: list[str] = []
    if everything or components & {"rabbitmq", "redis"}:
        names += services
    if everything or "postgresql" in components:
        names += [role for service in services for role in needs.postgresql_names(service)]
    if everything:
        names.append(manifests.BOOTSTRAP)
    return dict(passwords.provide(path, names))


def _read(urls: Sequence[str], services: Sequence[str]) -> list[Address]:
    for service in services:
        if needs.SERVICE_NAME.fullmatch(service) is None:
            raise NotAService(service)
    return [address.read(url) for url in urls]
