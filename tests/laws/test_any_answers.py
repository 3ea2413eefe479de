"""The laws on this repository's template, whatever the service has answered."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from dockyard import commands
from dockyard.adopting.adopt import adopt
from dockyard.rendering.render import render
from dockyard.rendering.template import open_template
from tests.laws import ground as land
from tests.laws.answers import answers
from tests.laws.ground import Ground
from tests.laws.model import ANSWERS_FILE, Files
from tests.laws.scenarios import edited_service, newer_release
from tests.laws.tally import counted, law
from tests.laws.test_real_template import RELEASE


def _laid_down(ground: Ground, folder: Path, said: Mapping[str, Any]) -> Files:
    """The files of a service of the first release that answered `said`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    template = open_template(str(ground.template), "v1.0.0")
    render(template, said, folder / "out", ask=False, scratch=folder)
    return land.on_disk(folder / "out")


@law(share=0.015, longer=50)
@given(said=answers)
@counted
def test_a_service_that_lost_its_answers_file_is_adopted_with_each_answer(
    ground: Ground, home: Path, said: dict[str, Any]
) -> None:
    ground.lay_out_template([RELEASE])
    files = _laid_down(ground, home / "any", said)
    ground.lay_out_service({path: file for path, file in files.items() if path != ANSWERS_FILE})

    adopt(ground.service, str(ground.template))

    ground.commit("adopted")
    assert yaml.safe_load((ground.service / ANSWERS_FILE).read_text("utf-8")) == {
        **ground.recorded,
        **said,
    }
    assert commands.restore(ground.service).paths == ()


@law(share=0.02, longer=200)
@given(said=answers, data=st.data(), newer=newer_release(RELEASE))
@counted
def test_a_prediction_for_a_service_with_any_answers_comes_true_tree_for_tree(
    ground: Ground, home: Path, said: dict[str, Any], data: st.DataObject, newer: Files
) -> None:
    ground.lay_out_template([RELEASE, newer])
    service = data.draw(edited_service(_laid_down(ground, home / "any", said)))
    ground.lay_out_service(service)

    predicted = commands.update(ground.service, dry_run=True)

    done = commands.update(ground.service, in_place=True)
    assert (done.tree, done.conflicts) == (predicted.tree, predicted.conflicts)
    assert ground.files(predicted.tree) == ground.committed_files()
