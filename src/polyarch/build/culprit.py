"""The program of another architecture that made a step fail: named by the shell, read out of the last finished step.

A kernel without a handler says ENOEXEC (execve(2)), which each shell and runtime words in its own way; with one, the
emulator starts and misses the loader of its own architecture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from polyarch.arch import ARCHES, Platform, by_elf
from polyarch.build.engine import Builds
from polyarch.errors import PolyarchError

_FORMAT_ERROR = re.compile(
    r"(?:sh: (?:(?:line )?\d+: )?(?P<shell>[^\s:]+): (?:cannot execute binary file: )?"
    r"|exec (?:container process )?[`'\"]?(?P<runtime>/[^\s:'`\"]+)[`'\"]?: )?exec format error",
    re.IGNORECASE,
)  # fmt: skip
_NO_LOADER = re.compile(r"Could not open '(?P<loader>/[^']+)'")  # under whichever name the emulator was started
_SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_HEAD = 20  # bytes up to e_machine


@dataclass(frozen=True, slots=True)
class Culprit:
    """The file ("" where nothing named it), whose platforms its header fits; `text`: it is no ELF file at all."""

    path: str = ""
    platforms: tuple[Platform, ...] = ()
    text: bool = False


def blamed(output: str, runs: Platform) -> Culprit | None:
    """What a failed step's last words say of a program of another architecture than `runs`; None if nothing."""
    found = _FORMAT_ERROR.search(output)
    if found is not None:
        return Culprit(found["shell"] or found["runtime"] or "")
    loaders = [match["loader"] for match in _NO_LOADER.finditer(output)]
    platforms = tuple(p for p, arch in ARCHES.items() if arch.loader in loaders and p != runs)
    return Culprit("", platforms) if platforms else None


def find(engine: Builds, output: str, runs: Platform, image: str) -> Culprit | None:
    """The same, with the file's header looked up in `image` (the last finished step; "" for none)."""
    culprit = blamed(output, runs)
    if culprit is None or not culprit.path or not image:
        return culprit
    name = culprit.path
    paths = [name] if "/" in name else [f"{folder}/{name}" for folder in _SEARCHED]
    try:
        head = engine.head(image, paths, _HEAD)
    except PolyarchError:  # the explanation is better with it, and must not become a failure of its own
        return culprit
    return identified(name, head) if head else culprit


def identified(path: str, head: bytes) -> Culprit:
    """The file by its first bytes (System V gABI, "ELF Header")."""
    if head[:4] != b"\x7fELF" or len(head) < _HEAD:
        return Culprit(path, text=True)
    order: Literal["little", "big"] = "little" if head[5] == 1 else "big"
    rows = by_elf(int.from_bytes(head[18:20], order), 32 * head[4], order)
    return Culprit(path, tuple(arch.platform for arch in rows))
