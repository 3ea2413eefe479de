"""checkov over all that the charts of services and platform render.

There is no finding without a reason, and no reason without a finding.

`python -m tests.template.chart.audit CHECKOV`, where CHECKOV is the path of its program. Checkov
lives in an environment of its own. The reasons are in `checkov.yaml` beside this file.
"""

import json
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tests.template import lab
from tests.template.chart.cases import CASES, values_of
from tests.template.chart.charts import BUSES, INBOXES, render_service

PLATFORM = Path(__file__).parents[3] / "platform/manifests"
REASONS: dict[str, str] = yaml.safe_load(
    Path(__file__).with_name("checkov.yaml").read_text("utf-8")
)


def render_everything(folder: Path) -> Path:
    """A folder with the manifests of every case, a file each."""
    template, manifests = folder / "template", folder / "manifests"
    template.mkdir()
    manifests.mkdir()
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")
    charts = {
        (bus, inbox): render_service(
            template, folder / f"{bus}-{inbox}", service_name="billing-svc", bus=bus, inbox=inbox
        )
        for bus, inbox in product(BUSES, INBOXES)
    }
    for bus, inbox, case in CASES:
        chart = charts[bus, inbox]
        file = manifests / f"{bus}-{inbox}-{case}.yaml"
        file.write_text(yaml.safe_dump_all(chart.render(values_of(chart, case))), "utf-8")
    shutil.copytree(PLATFORM, manifests / "platform")
    return manifests


def findings(checkov: str, manifests: Path) -> set[tuple[str, str, str]]:
    """Each failed check once a kind: its id, the kind, what it asks for and one of the places."""
    done = subprocess.run(
        [
            checkov,
            "--directory",
            manifests,
            "--framework",
            "kubernetes",
            "--skip-download",
            "--output",
            "json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["summary"]["parsing_errors"] == 0, report["results"]["parsing_errors"]
        assert report["summary"]["passed"] > 0, "checkov found nothing to check"
        failed = report["results"]["failed_checks"]
    except (ValueError, LookupError, TypeError) as error:
        sys.exit(
            f"{checkov} gave no report but {done.returncode}:\n"
            f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}\n{error!r}"
        )
    found = {}
    for check in failed:
        kind = check["resource"].partition(".")[0]
        where = f"{check['check_name']}: {check['resource']} of {Path(check['file_path']).stem}"
        found[check["check_id"], kind] = where
    return {(check, kind, where) for (check, kind), where in found.items()}


def main(checkov: str) -> None:
    with TemporaryDirectory() as folder:
        found = findings(checkov, render_everything(Path(folder)))
    explained = {
        key for check, kind, _ in found for key in (check, f"{check} {kind}") if key in REASONS
    }
    wrong = [
        f"{check} {kind}: {where}"
        for check, kind, where in sorted(found)
        if not {check, f"{check} {kind}"} & REASONS.keys()
    ]
    wrong += [
        f"{key} has a reason in checkov.yaml but is not found any more"
        for key in REASONS.keys() - explained
    ]
    if wrong:
        sys.exit("\n".join(wrong))
    sys.stdout.write(f"nothing but what has a reason: {', '.join(REASONS)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
