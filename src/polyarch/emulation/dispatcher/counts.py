"""What the dispatcher noted down: which programs ran as twins, which were emulated, and why."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyarch.arch import Platform, by_elf

# A record as in dispatcher.c: the reason, EI_CLASS, EI_DATA, e_machine, and the program's name padded with NUL.
RECORD = struct.Struct("<cBBH59s")
_REASONS = {
    "u": "no twin",
    "s": "changed after it was built",
    "p": "set-user-id or capabilities",
    "l": "variables of the loader",
    "d": "traced",
    "c": "a locale of another byte order or character set",
    "a": "an argument that twins do not take",
    "b": "a broken table",
}
_TWIN = "t"
_LITTLE = 1  # ELFDATA2LSB


@dataclass(frozen=True, slots=True)
class Counts:
    """How many programs of each name were started: `native` as twins; `emulated` by name and reason."""

    native: tuple[tuple[str, int], ...] = ()
    emulated: tuple[tuple[str, str, int], ...] = ()

    @property
    def share(self) -> float:
        """The share of programs that were emulated, from 0 to 1."""
        slow, fast = sum(count for *_, count in self.emulated), sum(count for _, count in self.native)
        return slow / (slow + fast) if slow + fast else 0.0

    def __str__(self) -> str:
        total = sum(count for *_, count in self.emulated) + sum(count for _, count in self.native)
        worst = ", ".join(f"{name} {count}" for name, _, count in self.emulated[:4])
        return f"emulated {self.share:.0%} of {total} programs" + (f" (most: {worst})" if worst else "")

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        emulated = [{"name": name, "why": why, "count": count} for name, why, count in self.emulated]
        return {"native": dict(self.native), "emulated": emulated, "share": round(self.share, 4)}


def read(log: Path) -> dict[Platform, Counts]:
    """Read a log. What is no record (a build can write there) is left out."""
    data = log.read_bytes() if log.exists() else b""
    native: defaultdict[tuple[int, int, int], Counter[str]] = defaultdict(Counter)
    emulated: defaultdict[tuple[int, int, int], Counter[tuple[str, str]]] = defaultdict(Counter)
    for kind, elf_class, order, machine, padded in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
        name, reason = padded.rstrip(b"\0").decode("utf-8", "replace"), kind.decode("latin-1")
        if reason == _TWIN:
            native[machine, elf_class, order][name] += 1
        elif reason in _REASONS:
            emulated[machine, elf_class, order][name, _REASONS[reason]] += 1
    return {
        arch.platform: Counts(
            tuple(native[key].most_common()),
            tuple((name, why, count) for (name, why), count in emulated[key].most_common()),
        )
        for key in sorted(native.keys() | emulated.keys())
        for arch in by_elf(key[0], 32 * key[1], "little" if key[2] == _LITTLE else "big")
    }
