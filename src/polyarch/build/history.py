"""How long stages took on this machine: one line of JSON each in a file of POLYARCH_HOME, the newest at the end."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace

from polyarch import places
from polyarch.plan.times import Took

_MOST = 2000  # lines; more than twice as many are cut down to it


def load() -> tuple[Took, ...]:
    """All that is kept, oldest first; a damaged line is no line."""
    try:
        lines = places.history().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            took = Took(**json.loads(line))
            found.append(replace(took, seconds=float(took.seconds)))
    return tuple(found)


def note(took: Took) -> None:
    """Add a line; a history that cannot be written is none, and nothing to fail a build for."""
    with contextlib.suppress(OSError):
        path = places.history()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(took)) + "\n")
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if len(lines) > 2 * _MOST:
            beside = path.with_suffix(".new")
            beside.write_text("".join(lines[-_MOST:]), encoding="utf-8")
            beside.rename(path)
