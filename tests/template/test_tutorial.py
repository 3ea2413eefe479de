"""The tutorial's printed files make a service that passes its own checks and tests."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.template import lab

TUTORIAL = (lab.ROOT / "docs" / "tutorial.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)


def test_the_service_of_the_tutorial_passes_its_checks_and_tests(
    service: Path, make_environment: Mapping[str, str]
) -> None:
    (contract,) = blocks("proto")
    handler, new_import, new_lines, tests = blocks("python")
    old_line = next(line for line in handler.splitlines(keepends=True) if "split" in line)
    mended = re.sub(r"^from chassis import .*\n", new_import, handler, flags=re.MULTILINE).replace(
        old_line, new_lines
    )
    assert mended.count("Reject") == 2

    (service / "contracts/acme/billing/v1/signup_handled.proto").unlink()
    (service / "contracts/acme/billing/v1/account_opened.proto").write_text(contract, "utf-8")
    (service / "src/billing_svc/handlers.py").write_text(mended, "utf-8")
    (service / "tests/test_handlers.py").write_text(tests, "utf-8")

    lab.run(["make", "contracts"], service, make_environment)
    lab.run(["make", "check"], service, make_environment)
    assert "3 passed" in lab.run(["make", "test"], service, make_environment)
