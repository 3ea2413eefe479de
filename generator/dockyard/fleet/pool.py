"""Works on many items in parallel processes. Copier changes the working directory: no threads.

Knows nothing of services. The processes end with the one that started them, however it ends.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.util import get_temp_dir
from threading import Lock, Thread, main_thread
from typing import TypeVar

from dockyard.programs.signals import ENDINGS, uninterrupted

Item = TypeVar("Item")
Result = TypeVar("Result")

_PRELOADED = ["copier", "dockyard.fleet.update"]
_LONGEST_SOCKET_FOLDER = 70
"""Bytes; the rest of 107 is for names that multiprocessing chooses."""
_AT_WORK = Lock()
_GRACE = 30.0
"""Seconds that a process has to undo its work after the one that started it is gone."""


def mapped(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int,
    prepare: Callable[[], None],
    lost: Callable[[Item], Result],
    is_enough: Callable[[Result], bool] = lambda _: False,
) -> Iterator[Result]:
    """The results of `work` on each item, as they come. With one process it is plain `map`.

    `prepare` runs first in each process. If the process of an item is killed twice, `lost` gives
    its result. After a result that `is_enough`, or Ctrl-C, no further item is begun; the results
    of those at work still come, and Ctrl-C is raised after them.
    """
    if jobs == 1 or len(items) <= 1:
        prepare()
        yield from _one_by_one(work, items, is_enough)
        return
    left = deque(items)
    enough = False
    ctrl_c = _CtrlC()
    while left and not enough:
        suspects: list[Item] = []
        with _processes(min(jobs, len(left)), prepare) as processes:
            running: dict[Future[Result], Item] = {}
            while running or (left and not enough and not suspects):
                with ctrl_c.held_back():
                    # No more are handed over than are worked on: an item cannot be taken back.
                    while left and len(running) < jobs and not enough and not suspects:
                        item = left.popleft()
                        running[_begun(processes, work, item)] = item
                for future in ctrl_c.put_off(running):
                    item = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        suspects.append(item)
                        continue
                    yield future.result()
                    enough = enough or is_enough(future.result())
                enough = enough or ctrl_c.came is not None
        for item in suspects:
            # One of the items took the others down. Alone, it shows which.
            result = _alone(work, item, prepare, lost)
            yield result
            enough = enough or is_enough(result)
    if ctrl_c.came is not None:
        raise ctrl_c.came


class _CtrlC:
    """Puts off the first Ctrl-C until the items at work are done."""

    def __init__(self) -> None:
        self.came: KeyboardInterrupt | None = None

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Within this no signal comes. The processes that start here inherit that, see `_begin`."""
        try:
            with uninterrupted():
                yield
        except KeyboardInterrupt as again:
            self._note(again)

    def put_off(self, running: Iterable[Future[Result]]) -> set[Future[Result]]:
        """The futures of `running` that are done, at least one; none if Ctrl-C came meanwhile."""
        try:
            return wait(running, return_when=FIRST_COMPLETED).done
        except KeyboardInterrupt as again:
            self._note(again)
            return set()

    def _note(self, again: KeyboardInterrupt) -> None:
        if self.came is not None:
            raise again
        self.came = again


def _one_by_one(
    work: Callable[[Item], Result], items: Sequence[Item], is_enough: Callable[[Result], bool]
) -> Iterator[Result]:
    for item in items:
        result = work(item)
        yield result
        if is_enough(result):
            return


def default_jobs() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processes(number: int, prepare: Callable[[], None]) -> ProcessPoolExecutor:
    _keep_sockets_short()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return ProcessPoolExecutor(number, context, _begin, (dict(os.environ), prepare))


def _keep_sockets_short() -> None:
    """Put the sockets of the processes into /tmp if the user's temporary folder has a long path.

    A Unix socket's path has at most 107 bytes. Python 3.14 does this by itself.
    """
    user, short = tempfile.gettempdir(), "/tmp"  # noqa: S108 - as Python 3.14 does
    if len(os.fsencode(user)) > _LONGEST_SOCKET_FOLDER and os.access(short, os.W_OK):
        try:
            tempfile.tempdir = short
            get_temp_dir()  # made now, and kept by this process
        finally:
            tempfile.tempdir = user


def _begun(
    processes: ProcessPoolExecutor, work: Callable[[Item], Result], item: Item
) -> Future[Result]:
    try:
        return processes.submit(partial(_guarded, work), item)
    except BrokenProcessPool as error:
        future: Future[Result] = Future()
        future.set_exception(error)
        return future


def _alone(
    work: Callable[[Item], Result],
    item: Item,
    prepare: Callable[[], None],
    lost: Callable[[Item], Result],
) -> Result:
    with _processes(1, prepare) as process:
        try:
            return _begun(process, work, item).result()
        except BrokenProcessPool:
            return lost(item)


def _guarded(work: Callable[[Item], Result], item: Item) -> Result:
    with _AT_WORK:
        return work(item)


def _begin(environment: Mapping[str, str], prepare: Callable[[], None]) -> None:
    # Ctrl-C goes to all processes of the terminal. In a session of its own, this process finishes
    # the service at hand, and the parent begins no other.
    os.setsid()
    signal.signal(signal.SIGINT, _interrupt)
    # Signals that came while this process started were for others.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    # The server that forks these processes may have started under another environment.
    os.environ.clear()
    os.environ.update(environment)
    Thread(target=_end_with_parent, daemon=True).start()
    prepare()


def _interrupt(*_: object) -> None:
    if _AT_WORK.locked():
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    identity = main_thread().ident
    if parent is None or identity is None:
        return
    parent.join()
    # The interrupt undoes what is half done and ends the programs that were started.
    signal.pthread_kill(identity, signal.SIGINT)
    _AT_WORK.acquire(timeout=_GRACE)
    os._exit(1)
