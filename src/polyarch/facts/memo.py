"""Answers of probes, kept in `probes.json` under keys that hold everything they depend on.

A key that no longer fits (a program was upgraded, the machine rebooted) is simply never asked for again, so nothing
has to be declared stale; what was not asked for in a run is dropped when the run saves.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard

from polyarch import __version__

Rows = list[list[str]]


class Memo:
    """A file of answers; `recall` may be called from several threads, each for its own keys."""

    def __init__(self, file: Path, *, forget: bool = False) -> None:
        self._file = file
        self._old = {} if forget else _read(file)
        self._new: dict[str, Rows] = {}

    def recall(
        self, key: str, find_out: Callable[[], Rows], *, keep: Callable[[Rows], bool] = lambda _answer: True
    ) -> Rows:
        """The answer that is kept under `key`, else what `find_out` says now, kept if it is worth it."""
        answer = self._old.get(key)
        if answer is None:
            answer = find_out()
        if keep(answer):
            self._new[key] = answer
        return answer

    def save(self) -> None:
        """Write the file whole or not at all; a cache that cannot be written is only slow, so that is no error."""
        if self._new == self._old:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._file.parent, prefix=".probes-")
            with os.fdopen(handle, "w") as file:
                json.dump({"version": __version__, "answers": self._new}, file, indent=1)
            Path(name).replace(self._file)
        except OSError:
            return


def fingerprint(*paths: Path | None) -> str:
    """Changes whenever one of the files is replaced, written, made or removed."""
    return ",".join(_stamp(path) for path in paths if path)


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return f"{path}:-"
    return f"{path}:{found.st_mtime_ns}:{found.st_size}"


def _read(file: Path) -> dict[str, Rows]:
    """What an earlier run of this very version kept; a damaged file, or another version's, is an empty one."""
    try:
        found = json.loads(file.read_text())
        if found["version"] != __version__:
            return {}
        return {str(key): rows for key, rows in found["answers"].items() if _is_rows(rows)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _is_rows(value: object) -> TypeGuard[Rows]:
    return isinstance(value, list) and all(
        isinstance(row, list) and all(isinstance(cell, str) for cell in row) for row in value
    )
