"""Draws the pictures of the README into docs/pictures.

    python -m docs.drawing            draws them
    python -m docs.drawing --record   runs `dockyard demo`, keeps what it prints, and draws them

With --check it writes nothing, names what is stale, and exits with 1.
"""

import argparse
import sys

from docs.drawing import recording, terminal, whole


def main() -> int:
    parser = argparse.ArgumentParser(description="Draws the pictures of the README.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    parser.add_argument("--record", action="store_true", help="run the demo, and keep its words")
    given = parser.parse_args()
    folder = recording.FILE.parent
    recorded = recording.FILE.read_text("utf-8") if recording.FILE.exists() else ""
    kept = {}
    if given.record:
        printed = recording.record()
        if difference := recording.difference(printed, recorded):
            sys.stderr.write(f"{difference}\n")
            recorded = kept[recording.FILE] = printed
    kept[folder / "demo.svg"] = terminal.draw(recorded)
    kept[folder / "whole.svg"] = whole.draw()
    stale = [
        file
        for file, content in kept.items()
        if not file.exists() or file.read_text("utf-8") != content
    ]
    for file in stale:
        if given.check:
            target = "recording" if file == recording.FILE else "pictures"
            sys.stderr.write(f"{file.name} is stale: run `make {target}`\n")
        else:
            file.write_text(kept[file], "utf-8")
            sys.stdout.write(f"wrote {file.name}\n")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
