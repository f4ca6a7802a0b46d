"""Progress as events, and the two ways to show them: lines for people, JSON lines for machines.

Results go to stdout, progress to stderr. A sink is a function that takes an `Event`; rooms below `cli` only ever see
that type. Nothing here moves the cursor, so a log file and a terminal show the same lines.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal, TextIO

Kind = Literal["start", "step", "done", "failed", "cancelled", "note"]

_COLOURS = {"start": "36", "step": "2", "done": "32", "failed": "31", "cancelled": "33", "note": "33"}
_MARKS = {"start": "…", "step": "→", "done": "✓", "failed": "✗", "cancelled": "-", "note": "!"}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: to which `subject` (a platform, mostly), and when (`at`, seconds since the epoch)."""

    kind: Kind
    subject: str
    text: str
    step: int = 0
    steps: int = 0
    at: float = field(default_factory=time.time)


Sink = Callable[[Event], None]


def colour_wanted(stream: TextIO) -> bool:
    """Whether `stream` is a terminal and the user has not asked for plain text (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """One line that moves no cursor and forges no other line: what an image or a registry says is foreign text.

    Controls, line ends, marks of writing direction and lone surrogates are written as escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def human(stream: TextIO | None = None) -> Sink:
    """Lines such as `→ linux/arm64   [3/7] RUN apt-get install …`."""
    out = stream or sys.stderr
    coloured = colour_wanted(out)

    def show(event: Event) -> None:
        count = f"[{event.step}/{event.steps}] " if event.steps else ""
        line = printable(f"{_MARKS[event.kind]} {event.subject:<14} {count}{event.text}")
        if coloured:
            line = f"\x1b[{_COLOURS[event.kind]}m{line}\x1b[0m"
        out.write(f"{line}\n")  # at once: several threads may show something
        out.flush()

    return show


def machine(stream: TextIO | None = None) -> Sink:
    """One JSON object per line, the fields of `Event`."""
    out = stream or sys.stderr

    def show(event: Event) -> None:
        print(json.dumps(asdict(event), ensure_ascii=False), file=out, flush=True)

    return show


def silent(_event: Event) -> None:
    """A sink that shows nothing."""
