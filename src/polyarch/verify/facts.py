"""What the bytes of one layer say, whatever image the layer belongs to.

`LayerFacts` is a function of a blob's bytes alone, so it can be kept under the blob's digest. It must be small whatever
the layer's size: of most entries only a 61-bit hash of the path and 3 bits of kind remain (to answer "does this layer
have, replace or remove that path?"), and only programs, links and the like are kept by name. `Limits` caps both.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field, fields
from enum import IntEnum
from hashlib import blake2b
from typing import Any, Final, Literal, Protocol

FORMAT: Final = f"2-{sys.byteorder}"
Compression = Literal["tar", "gzip", "zstd", "xz", "bzip2", "empty", "unknown"]


class Kind(IntEnum):
    """What an entry of a layer is; the low 3 bits of a name's word."""

    DIRECTORY = 0
    FILE = 1
    EXECUTABLE = 2
    SYMLINK = 3
    HARDLINK = 4
    OTHER = 5
    WHITEOUT = 6
    OPAQUE = 7


# A Python string and its place in a dictionary cost about this many bytes beside the text.
KEPT_NAME: Final = 150
ENTRY: Final = frozenset(Kind) - {Kind.WHITEOUT, Kind.OPAQUE}


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a scan stops. `expanded` and `bomb_floor` in bytes; `names` in bytes of text kept.

    A layer is a bomb when it has grown past `bomb_floor` and by more than `ratio`, or past `expanded` at all: gzip
    reaches 1:1032 on zeros, which honest layers hold for some gigabytes at most.
    """

    expanded: int = 256 << 30
    bomb_floor: int = 4 << 30
    ratio: int = 200
    entries: int = 1 << 20
    names: int = 24 << 20


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the bytes themselves: a code, where, and what."""

    code: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class ElfKind:
    """What an ELF header says, and the instruction set that the file states it needs.

    `level` is the number of x86-64-vN or of ARM's architecture version, 0 when the file does not say; `static` means a
    program without an interpreter, which no library's ABI binds.
    """

    machine: int
    elf_class: int
    byteorder: str
    type: int
    flags: int
    level: int = 0
    static: bool = False


@dataclass(frozen=True)
class LayerFacts:
    """One layer. Paths are relative to the root, without `./`.

    `elves` maps a path to (index into `kinds`, member of the ar archive or ""); `names` is sorted; `searched` maps a
    program, or a file of ld.so.conf(5), to the folders that it has the loader look in, separated by colons.
    """

    digest: str
    size: int
    diff_id: str
    expanded: int
    compression: Compression
    chunked: bool = False
    faults: tuple[Fault, ...] = ()
    kinds: tuple[ElfKind, ...] = ()
    elves: dict[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)
    interpreters: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    searched: dict[str, str] = field(default_factory=dict)
    symlinks: dict[str, str] = field(default_factory=dict)
    hardlinks: dict[str, str] = field(default_factory=dict)
    names: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def weight(self) -> int:
        """Bytes of memory that these facts take, roughly."""
        named = (self.elves, self.interpreters, self.scripts, self.searched, self.symlinks, self.hardlinks)
        texts = sum(len(path) + KEPT_NAME for kept in named for path in kept)
        return texts + len(self.faults) * 2 * KEPT_NAME + len(self.names) * self.names.itemsize

    @property
    def whole(self) -> bool:
        """Whether all entries are known."""
        stops = {"layer-corrupt", "layer-bomb", "layer-limit", "tar-malformed"}
        readable = self.compression in ("tar", "gzip", "zstd", "empty")
        return readable and not any(fault.code in stops for fault in self.faults)

    def holds(self, path: str) -> frozenset[Kind]:
        """What this layer says of `path`: several kinds when it removes and adds it, or has it twice."""
        return self.holds_word(name_word(path))

    def holds_word(self, word: int) -> frozenset[Kind]:
        """The same for a path whose `name_word` is known."""
        at = bisect_left(self.names, word)
        found: list[Kind] = []
        while at < len(self.names) and self.names[at] & ~7 == word:
            found.append(Kind(self.names[at] & 7))
            at += 1
        return frozenset(found)

    def to_json(self) -> str:
        """A text that `from_json` reads."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("names", "kinds", "faults")}
        plain["kinds"] = [[getattr(kind, f.name) for f in fields(kind)] for kind in self.kinds]
        plain["faults"] = [[fault.code, fault.path, fault.message] for fault in self.faults]
        plain["names"] = base64.b64encode(zlib.compress(self.names.tobytes(), 1)).decode()
        return json.dumps({"format": FORMAT, **plain}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> LayerFacts | None:
        """What `to_json` wrote, or None when another version or machine wrote it or it is damaged."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("format") != FORMAT:
                return None
            names = array("Q", zlib.decompress(base64.b64decode(data.pop("names"))))
            kinds = tuple(ElfKind(*kind) for kind in data.pop("kinds"))
            faults = tuple(Fault(*fault) for fault in data.pop("faults"))
            elves = {path: tuple((kind, member) for kind, member in found) for path, found in data.pop("elves").items()}
            return cls(names=names, kinds=kinds, faults=faults, elves=elves, **data)
        except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
            return None


class LayerCache(Protocol):
    """Facts of layers that were scanned before. A layer found here is not read again."""

    def get(self, digest: str) -> str | None:
        """The text kept for this blob, or None."""

    def put(self, digest: str, facts: str) -> None:
        """Keep a text for this blob."""


def name_word(path: str) -> int:
    """61 bits of the path's hash, with room for a `Kind` in the low 3 bits."""
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little") & ~7
