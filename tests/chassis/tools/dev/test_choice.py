"""What a service chose, read from its own files."""

from pathlib import Path

import pytest

from chassis.tools.dev.choice import Choice, chosen

METADATA = """\
Metadata-Version: 2.4
Name: billing-svc
Version: 1.0
Requires-Dist: {required}
Requires-Dist: httpx>=0.28
Provides-Extra: test
Requires-Dist: dockyard-chassis[redis]; extra == 'test'
"""


@pytest.mark.parametrize(
    ("required", "bus", "store"),
    [
        ("dockyard-chassis[nats,rabbitmq]", "rabbitmq", "nats"),
        ("dockyard-chassis [rabbitmq, postgres]", "rabbitmq", "postgres"),
        ("dockyard-chassis[nats,redis]>=1", "nats", "redis"),
        ("dockyard-chassis[http,nats]", "nats", "nats"),
        ("dockyard-chassis", "nats", "nats"),
    ],
)
def test_the_extras_of_the_installed_service_choose_broker_and_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: str, bus: str, store: str
) -> None:
    made = tmp_path / "billing_svc-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text(METADATA.format(required=required))
    monkeypatch.syspath_prepend(tmp_path)
    choice = chosen("billing-svc", tmp_path)
    assert (choice.bus, choice.store) == (bus, store)


@pytest.mark.parametrize("written", ["acme", "'acme'", '"acme"'])
def test_the_answers_name_the_organisation(tmp_path: Path, written: str) -> None:
    (tmp_path / ".copier-answers.yml").write_text(
        f"# Managed\ndescription: says organisation: other\norganisation: {written}\nowner: x\n"
    )
    assert chosen("no-such-svc", tmp_path).organisation == "acme"


def test_a_folder_that_is_no_service_leaves_everything_open(tmp_path: Path) -> None:
    assert chosen("no-such-svc", tmp_path) == Choice("nats", "nats", None, {})
