"""A headless Chromium, driven over a pipe: enough to look at one page. Knows no page."""

import base64
import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.brokers.binaries import find

# Chromium reads its commands from the file descriptor 3 and answers on 4.
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)

_PATIENCE = 60.0


class Page:
    """One page at a time, in the browser that `chromium` started."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def open(self, file: Path, width: int, *, dark: bool = False) -> None:
        """Load `file` in a window `width` pixels wide, and wait until it is there."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        media = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=media)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=file.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, expression: str) -> Any:
        """The value of `expression` in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(
            self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        )

    def complaints(self) -> list[str]:
        """Errors and messages on the console, and requests to anywhere."""
        wrong = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [json.dumps(event) for event in self.events if event["method"] in wrong] + asked[1:]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The browser's answer to `method`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], _PATIENCE)
            assert ready, f"the browser has said nothing for {_PATIENCE:g} s"
            read = os.read(self._answers, 65536)
            assert read, "the browser ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def chromium() -> Iterator[Page]:
    """A browser with a profile of its own, ended with the block. Raises MissingProgramError."""
    program = find("chromium")
    to_read, commands = os.pipe()
    answers, to_write = os.pipe()
    # The shell puts the pipes where Chromium looks for them: their numbers differ here.
    script = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
    # Not in the test's own folder: the path of a socket in it must be short.
    with TemporaryDirectory(prefix="browser-", dir="/tmp", ignore_cleanup_errors=True) as home:
        command = [
            "/bin/bash",
            "-c",
            script,
            str(program),
            *_FLAGS,
            f"--user-data-dir={home}/profile",
        ]
        with subprocess.Popen(
            command,
            env=os.environ | {"TMPDIR": home},
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                os.close(to_read)
                os.close(to_write)
                yield Page(commands, answers)
            finally:
                process.kill()
                os.close(commands)
                os.close(answers)
