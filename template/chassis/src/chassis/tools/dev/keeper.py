"""The process that holds one server of `dev`: it starts the server, and ends when nobody uses it.

`dev` runs it by its path with the standard library alone, so it is small. It inherits the lock that
says that it lives. Every `dev` that uses the server has a shared lock on the file `users`, which
the kernel takes from a process that is killed. Knows a command line; knows no server.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 20.0

# If the keeper is killed, this shell stops the server: it reads from a pipe that ends with the
# keeper.
_WATCHER = 'read -r _ && exit; kill -s "$1" -- "-$2"; shift 2; [ $# -eq 0 ] || "$@" >/dev/null 2>&1'


def keep(told: str) -> None:
    """Run the server until SIGTERM, until it ends, or until no process has a lock on `users`.

    `told` is JSON: `users` and `log` are files; `command`, `user`, `stop`, `clear` are of a Launch.
    """
    launch = json.loads(told)
    os.chdir("/")
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes up
    with Path(launch["users"]).open("rb") as users, Path(launch["log"]).open("ab") as log:
        server = subprocess.Popen(
            launch["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=launch["user"],
            extra_groups=None if launch["user"] is None else [],
            start_new_session=True,
        )
        watched = [launch["stop"], str(server.pid), *launch["clear"]]
        with subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "watcher", *watched],
            stdin=subprocess.PIPE,
            start_new_session=True,
        ) as watcher:
            while server.poll() is None and not ended and not _unused(users.fileno()):
                if select.select([awake], [], [], _LOOK_SECONDS)[0]:
                    os.read(awake, 64)
            _stop(server, signal.Signals[f"SIG{launch['stop']}"])
            if launch["clear"]:
                subprocess.run(launch["clear"], capture_output=True, check=False)
            watcher.communicate(b"stopped\n")


def _unused(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True  # and locked until this process ends: a new `dev` waits for that


def _stop(server: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    """Let it end in order, then kill what is left of its process group."""
    if server.poll() is None:
        os.killpg(server.pid, how)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


if __name__ == "__main__":
    keep(sys.argv[1])
