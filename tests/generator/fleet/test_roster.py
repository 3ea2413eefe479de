"""A fleet is what its file says, or what lies in a folder; a wrong file is refused."""

from pathlib import Path

import pytest

from dockyard.fleet import roster
from dockyard.fleet.roster import BadFleetFile, Member, NoFleet


def service(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / ".copier-answers.yml").write_text("_src_path: x\n")
    return path


def fleet_file(folder: Path, text: str) -> Path:
    file = folder / "fleet.toml"
    file.write_text(text)
    return file


def test_a_fleet_file_names_paths_urls_groups_template_and_answers(tmp_path: Path) -> None:
    service(tmp_path / "billing-svc")
    file = fleet_file(
        tmp_path,
        """
        template = "gh:acme/standard"
        answers = { region = "eu" }
        [[services]]
        path = "billing-svc"
        groups = ["payments", "canary"]
        answers = { team = "pay" }
        [groups.payments]
        answers = { region = "us", team = "of the group" }
        [groups.canary]
        answers = { region = "of the later group", tier = "gold" }
        [[services]]
        url = "git@git.example.com:acme/welcome-svc.git"
        [[services]]
        url = "https://git.example.com/acme/mono.git"
        branch = "next"
        folder = "services/mail-svc/"
        """,
    )
    fleet = roster.read(file)
    assert fleet.template == "gh:acme/standard"
    assert fleet.members == (
        Member(
            "billing-svc",
            path=tmp_path / "billing-svc",
            groups=frozenset({"payments", "canary"}),
            answers={"region": "us", "tier": "gold", "team": "pay"},
        ),
        Member(
            "welcome-svc",
            url="git@git.example.com:acme/welcome-svc.git",
            answers={"region": "eu"},
        ),
        Member(
            "mail-svc",
            url="https://git.example.com/acme/mono.git",
            branch="next",
            folder="services/mail-svc",
            answers={"region": "eu"},
        ),
    )
    assert [member.name for member in fleet.chosen(["payments"])] == ["billing-svc"]
    assert fleet.chosen([]) == fleet.members
    with pytest.raises(BadFleetFile, match=r"'shipping'; it has canary, payments"):
        fleet.chosen(["shipping"])


def test_a_folder_with_a_fleet_file_is_that_fleet_and_paths_may_be_patterns(tmp_path: Path) -> None:
    for name in ("b-svc", "a-svc"):
        service(tmp_path / "services" / name)
    (tmp_path / "services/notes").mkdir()
    fleet_file(tmp_path, '[[services]]\npath = "services/*"\ngroups = ["all"]\n')
    assert [member.name for member in roster.read(tmp_path).members] == ["a-svc", "b-svc"]


def test_a_folder_is_scanned_for_services_and_not_into_them(tmp_path: Path) -> None:
    for path in (
        "mono/apps/x-svc",
        "y-svc",
        "y-svc/inner-svc",
        ".hidden/z-svc",
        "mono/node_modules/n-svc",
    ):
        service(tmp_path / path)
    assert [member.name for member in roster.read(tmp_path).members] == ["mono/apps/x-svc", "y-svc"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("services = [", r"Invalid value"),
        ("template = 'x'", r"services: Field required"),
        (
            'forge = "sourcehut"\n[[services]]\npath = "a"',
            r"forge: Input should be 'github', 'gitlab', 'gitea', 'bitbucket' or 'azure'",
        ),
        ("services = []", r"services: List should have at least 1 item"),
        ('[[services]]\npath = "a"\nurl = "b"', r"services\.1: needs either a path or a url"),
        (
            '[[services]]\npath = "a"\n[[services]]\npaht = "b"',
            r"services\.2\.paht: is not known here",
        ),
        (
            '[[services]]\npath = "a"\nfolder = "b"',
            r"services\.1: branch and folder belong to a url",
        ),
        (
            '[[services]]\nurl = "a"\nfolder = "../b"',
            r"services\.1\.folder: must be a folder within the repository",
        ),
        ('[[services]]\npath = "x/a"\n[[services]]\npath = "y/a"', r"two services are called 'a'"),
        ('[[services]]\npath = "none/*"', r"'none/\*' matches no service"),
        ('[groups.x]\n[[services]]\npath = "a"', r"no service is in the group 'x'"),
        ('[[waves]]\nname = "w"\n[[services]]\npath = "a"', r"waves\.1: needs services or groups"),
        (
            '[[waves]]\nname = "w"\nservices = ["b"]\n[[services]]\npath = "a"',
            r"the wave 'w' names no service: 'b'",
        ),
        (
            '[[services]]\npath = "a"\ngroups = "x"',
            r"services\.1\.groups: Input should be a valid list",
        ),
    ],
)
def test_a_wrong_fleet_file_is_refused_with_its_place(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(BadFleetFile, match=problem) as refused:
        roster.read(fleet_file(tmp_path, text))
    assert str(tmp_path / "fleet.toml") in str(refused.value)


@pytest.mark.parametrize("place", [".", "fleet.toml", "nowhere"])
def test_no_fleet_is_said_so(tmp_path: Path, place: str) -> None:
    with pytest.raises(NoFleet):
        roster.read(tmp_path / place)
