"""Updates by dockyard against `copier update`, of one service and of fleets, in the same run.

    python -m benchmarks.update [--fleet N]... [--rounds N] [--sample N] [--require]

Services of the real template go from the oldest supported version to the one of the working tree.
Each team has edited a file of its own and one of the platform's. Every measurement includes the
start of the processes, and begins with Python's bytecode compiled and with empty caches of
templates and renders. Copier updates services one after the other, because it cannot do more.
Machines differ: the ratios count. With --require a ratio below its floor, or too much memory, ends
with 1.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import monotonic

import psutil
from tests.template import lab

from dockyard.answers import Recorded
from dockyard.rendering.render import render_tree
from dockyard.rendering.render_cache import store
from dockyard.rendering.template import Template, open_template

OLD, NEW = "v1.0.0", "v2.0.0"
BRANCH = f"dockyard/{NEW}"
DOCKYARD = [sys.executable, "-m", "dockyard"]
COPIER = [sys.executable, "-m", "copier", "update", "--defaults", "--vcs-ref", NEW]
FLEETS = (10, 30, 100)
BUSES = ("rabbitmq", "nats")
INBOXES = ("nats-kv", "redis", "postgres")
RATIO_OF_ONE = 3.0
RATIO_OF_MANY, MANY = 15.0, 100
"""What a fleet of that many services, or more, has to reach."""
MOST_MEMORY = 500_000_000
"""Bytes."""
BETWEEN_SAMPLES = 0.05
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took, with all processes that it started."""

    seconds: float
    memory: int
    """Bytes: the highest sum of resident memory seen. Shared pages count for each process."""
    git: int
    """How many git processes ran."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--fleet", type=int, action="append", help=f"services in a fleet; by default {FLEETS}"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="updates of the one service; the median counts"
    )
    parser.add_argument(
        "--sample", type=int, help="let copier update only so many of a fleet, and extrapolate"
    )
    parser.add_argument("--require", action="store_true", help="end with 1 when a floor is missed")
    options = parser.parse_args()
    sizes = options.fleet or list(FLEETS)
    with tempfile.TemporaryDirectory(prefix="dockyard-bench-") as folder:
        room = Room(Path(folder))
        _say(f"laying down {max(sizes)} services")
        services = room.lay_down(max(sizes))
        # Python's bytecode is made here, once for both.
        room.dockyard(services[:1])
        room.copier(services[:1])
        print(
            f"{'':24}{'dockyard':>12}{'copier':>12}{'ratio':>8}   memory (MB)   git processes",
            flush=True,
        )
        misses = _one(room, services[0], options.rounds)
        for size in sizes:
            misses += _fleet(room, services[:size], options.sample or size)
    if options.require and misses:
        sys.exit("\n".join(misses))


def missed(services: int, ours: Cost, theirs: Cost) -> list[str]:
    """A sentence for each floor that an update of so many services missed."""
    name = "one service" if services == 1 else f"a fleet of {services}"
    ratio = theirs.seconds / ours.seconds
    floor = RATIO_OF_ONE if services == 1 else RATIO_OF_MANY if services >= MANY else 0.0
    slow = (
        [f"{name}: {ratio:.1f}x as fast as copier, and {floor:g}x is required"]
        if ratio < floor
        else []
    )
    memory = (
        f"{name}: {ours.memory / 1e6:.0f} MB, and at most {MOST_MEMORY / 1e6:.0f} MB are allowed"
    )
    return slow + ([memory] if ours.memory > MOST_MEMORY else [])


def _one(room: "Room", service: Path, rounds: int) -> list[str]:
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(room.dockyard([service]))
        theirs.append(room.copier([service]))
    _report("one service", _middle(ours), _middle(theirs))
    return missed(1, _middle(ours), _middle(theirs))


def _fleet(room: "Room", services: Sequence[Path], sample: int) -> list[str]:
    ours = room.dockyard(services)
    some = services[:sample]
    theirs = room.copier(some)
    scale = len(services) / len(some)
    whole = Cost(theirs.seconds * scale, theirs.memory, round(theirs.git * scale))
    note = "" if scale == 1 else f"  (copier: from {len(some)})"
    _report(f"fleet of {len(services)}{note}", ours, whole)
    return missed(len(services), ours, whole)


def _middle(costs: Sequence[Cost]) -> Cost:
    """The one with the median time, of an odd number."""
    wanted = median(cost.seconds for cost in costs[: len(costs) - (len(costs) + 1) % 2])
    return next(cost for cost in costs if cost.seconds == wanted)


def _report(name: str, ours: Cost, theirs: Cost) -> None:
    ratio = theirs.seconds / ours.seconds
    print(
        f"{name:24}{ours.seconds:10.2f} s{theirs.seconds:10.2f} s{ratio:7.1f}x"
        f"{ours.memory / 1e6:8.0f} :{theirs.memory / 1e6:4.0f}{ours.git:10d} :{theirs.git:6d}",
        flush=True,
    )


class Room:
    """A folder with the template, the services and the caches of one run of the benchmark."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._services = folder / "services"
        inherited = {
            name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
        }
        self._env = inherited | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        self._template = folder / "template"
        lab.git(folder, "clone", "--quiet", "--no-local", "--no-tags", str(lab.ROOT), "template")
        lab.git(self._template, "tag", OLD, _oldest())
        shutil.rmtree(self._template / "template")
        lab.lay_down_template(self._template)
        lab.commit_all(self._template, "the template of the working tree")
        lab.git(self._template, "tag", NEW)

    def lay_down(self, count: int) -> list[Path]:
        """`count` committed services of the old version, each with some work of its team."""
        os.environ["DOCKYARD_CACHE_DIR"] = str(self._folder / "laying-down")
        template = open_template(str(self._template), OLD)
        return [self._service(template, number) for number in range(count)]

    def dockyard(self, services: Sequence[Path]) -> Cost:
        """Update `services` by one command, each on a branch; the branches are removed again."""
        cache = self._folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        if len(services) == 1:
            command = [*DOCKYARD, "update", str(services[0])]
        else:
            command = [*DOCKYARD, "fleet", "update", str(self._fleet_of(services))]
        cost = self._measured([command], {"DOCKYARD_CACHE_DIR": str(cache)})
        for service in services:
            lab.git(service, "branch", "--quiet", "-D", BRANCH)
        return cost

    def copier(self, services: Sequence[Path]) -> Cost:
        """Update `services` by a command each; then they are as before."""
        cache = self._folder / "copier"
        shutil.rmtree(cache, ignore_errors=True)
        env = {"COPIER_CACHE_DIR": str(cache), "COPIER_SETTINGS_PATH": os.devnull}
        cost = self._measured([[*COPIER, str(service)] for service in services], env)
        for service in services:
            if f"_commit: {NEW}" not in (service / ".copier-answers.yml").read_text("utf-8"):
                sys.exit(f"copier did not update {service}")
            lab.git(service, "reset", "--quiet", "--hard")
            lab.git(service, "clean", "--quiet", "-fd")
        return cost

    def _service(self, template: Template, number: int) -> Path:
        name = f"service-{number:03d}-svc"
        answers = {
            "service_name": name,
            "bus": BUSES[number % len(BUSES)],
            "inbox": INBOXES[number % len(INBOXES)],
        }
        rendered = render_tree(template, Recorded(str(self._template), OLD, answers), name)
        service = self._services / name
        service.mkdir(parents=True)
        env = os.environ | {"GIT_INDEX_FILE": str(self._folder / "index")}
        lab.run(
            [
                "git",
                f"--git-dir={store()}",
                f"--work-tree={service}",
                "read-tree",
                "--reset",
                "-u",
                rendered.tree,
            ],
            service,
            env,
        )
        for path in (f"src/{name.replace('-', '_')}/handlers.py", "Makefile"):
            with (service / path).open("a", encoding="utf-8") as file:
                file.write("\n# a line of the team\n")
        lab.commit_all(service, "laid down, and worked on")
        return service

    def _fleet_of(self, services: Sequence[Path]) -> Path:
        """A fleet file that names `services`."""
        file = self._folder / "fleet.toml"
        file.write_text(
            "".join(f'[[services]]\npath = "{service}"\n' for service in services), encoding="utf-8"
        )
        return file

    def _measured(self, commands: Sequence[Sequence[str]], env: Mapping[str, str]) -> Cost:
        """The cost of `commands`, one after the other. If one fails, the benchmark ends."""
        traces = self._folder / "traces"
        shutil.rmtree(traces, ignore_errors=True)
        traces.mkdir()
        done = Event()
        peaks: list[int] = [0]
        watch = Thread(target=_watch, args=(done, peaks))
        watch.start()
        try:
            started = monotonic()
            for command in commands:
                lab.run(
                    command, self._folder, {**self._env, **env, "GIT_TRACE2_EVENT": str(traces)}
                )
            seconds = monotonic() - started
        finally:
            done.set()
            watch.join()
        return Cost(seconds, max(peaks), len(list(traces.iterdir())))


def _watch(done: Event, peaks: list[int]) -> None:
    """Note the memory of this process's children until `done`."""
    own = psutil.Process()
    while not done.wait(BETWEEN_SAMPLES):
        total = 0
        for child in own.children(recursive=True):
            with suppress(psutil.Error):
                total += child.memory_info().rss
        peaks.append(total)


def _oldest() -> str:
    """The oldest commit whose services must still update."""
    listed = (lab.ROOT / "tests/template/older_commits.txt").read_text("utf-8").splitlines()
    return next(line for line in listed if line and not line.startswith("#"))


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
