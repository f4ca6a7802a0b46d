"""Whether a layer is free of anything of one architecture, so that it may stand on any platform's base.

A layer's blob goes in, what speaks against it comes out, each with its path; archives in it are looked into. Compiled
Python (`.pyc`) passes: marshal writes the same bytes on every machine (CPython `Python/marshal.c`).

What this cannot see: that a program which ran natively would have written another text elsewhere without saying why.
`polyarch build --prove-graft` compares with an emulated build.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from polyarch.errors import HostError
from polyarch.verify.scan import clean
from polyarch.verify.streams import CorruptError, expand, sniff
from polyarch.verify.tape import BLOCK, MalformedError, Member, Tape, walk
from polyarch.verify.traces import by_head, by_path, by_text, is_windows, word_in

MOST: Final = 1000  # traces that are kept of one layer
_HEAD: Final = 1 << 16  # bytes read of each file; a text that is longer is not searched for words
_PIECE: Final = 1 << 20
_BUDGET: Final = 16 << 30  # bytes that the archives of one layer may expand to
_LARGEST_ZIP: Final = 2 << 30
_DEEPEST: Final = 4
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_ZIPS: Final = (".whl", ".jar", ".war", ".ear", ".zip", ".egg", ".pyz", ".pex", ".shiv", ".par")
_SCRIPT: Final = b"#!"
_AR: Final = b"!<arch>\n"

# What the libraries raise on damaged archives, methods that they do not know, and passwords.
_UNREADABLE: Final = (
    CorruptError, MalformedError, HostError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, struct.error, EOFError,
    OSError, RuntimeError, ValueError,
)  # fmt: skip

Read = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Trace:
    """Something of one architecture: a path relative to the root (`a.jar!b.so` inside an archive), and what it is."""

    path: str
    what: str


class _FullError(Exception):
    """Enough was found, or too much would have to be read."""


def traces(chunks: Iterable[bytes]) -> tuple[Trace, ...]:
    """What binds a layer to one architecture, the package database first; empty when nothing does.

    `chunks` are the blob's bytes as stored. A layer that cannot be read to its end is bound by that.
    """
    search = _Search()
    blob = iter(chunks)
    head = b""
    while len(head) < BLOCK and (more := next(blob, b"")):
        head += more
    try:
        search.archive("", expand(_joined(head, blob), sniff(head)), 0)
    except (CorruptError, MalformedError, HostError) as problem:
        search.found.append(Trace("", f"the layer cannot be read to its end: {problem}"))
    except _FullError:
        pass
    return tuple(sorted(search.found, key=lambda trace: "package database" not in trace.what))


def _joined(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


class _Search:
    """Gathers the traces of one layer."""

    def __init__(self) -> None:
        self.found: list[Trace] = []
        self._left = _BUDGET
        self._named: set[str] = set()

    def note(self, path: str, what: str) -> None:
        """Keep a trace. Raises `_FullError` when there are enough."""
        if what:
            self.found.append(Trace(path, what))
        if len(self.found) >= MOST:
            raise _FullError

    def archive(self, outer: str, pieces: Iterator[bytes], depth: int) -> None:
        """Every entry of a tar archive; `outer` is "" for the layer itself."""
        for member, content in walk(Tape(pieces)):
            path = clean(member.name)
            if path is None:
                self.note(member.name, "it leaves the root")
                continue
            path = f"{outer}!{path}" if outer else path
            if member.type == tarfile.DIRTYPE:
                self._name(path)
                continue
            if not outer:
                self.note(path, by_path(path.replace(".wh.", "")))
            if member.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                self._name(path)
                self._link(path, member)
            else:
                self.file(path, bool(member.mode & 0o111), content.take, depth)

    def file(self, path: str, runs: bool, read: Read, depth: int) -> None:
        """One file by its content."""
        head = read(_HEAD)
        if not is_windows(head):
            self._name(path)
        what = by_head(head, runs=runs) or _static_library(path, head)
        if not what and len(head) < _HEAD:
            what = by_text(path, head)
        self.note(path, what)
        if not what:
            self._inside(path, head, read, depth)

    def _name(self, path: str) -> None:
        """The first part of a path that states an architecture; what lies in such a folder is not told again."""
        outer, mark, inner = path.rpartition("!")
        parts = inner.split("/")
        for number, part in enumerate(parts):
            word = word_in(part)
            if word:
                named = f"{outer}{mark}{'/'.join(parts[: number + 1])}"
                if named not in self._named:
                    self._named.add(named)
                    self.note(named, f"its name states an architecture: {word}")
                return

    def _link(self, path: str, member: Member) -> None:
        word = word_in(member.linkname)
        self.note(path, f"a link to {member.linkname}" if word else "")

    def _inside(self, path: str, head: bytes, read: Read, depth: int) -> None:
        """Look into what holds other files; a file that only looks like an archive is none."""
        script = head.startswith(_SCRIPT)
        # Python and pex run a zip behind a `#!` under any name.
        zipped = head.startswith(_ZIP) or path.lower().endswith(_ZIPS) or (script and _ZIP[0] in head)
        if script and not zipped:
            self._behind_script(path, head, read)
            return
        packed = sniff(head[:BLOCK])
        if not zipped and (packed in ("unknown", "empty") or (packed == "tar" and head[257:262] != b"ustar")):
            return
        if depth >= _DEEPEST:
            self.note(path, f"archives within archives, more than {_DEEPEST} deep")
            return
        pieces = self._counted(_pieces(head, read), path)
        try:
            if zipped:
                self._zip(path, pieces, depth + 1)
            elif packed == "tar":
                self.archive(path, pieces, depth + 1)
            else:
                tape = Tape(self._counted(_unpacked(pieces, packed), path))
                self.file(path, False, tape.take, depth + 1)
        except _UNREADABLE as problem:
            if not zipped or head.startswith((*_ZIP, _SCRIPT)):  # what is only called a zip may be anything
                self.note(path, f"it cannot be looked into: {problem or type(problem).__name__}")

    def _behind_script(self, path: str, head: bytes, read: Read) -> None:
        """Installers carry programs behind a shell script: such a file is no text, and nobody knows what it unpacks."""
        if any(b"\0" in piece for piece in _pieces(head, read)):
            self.note(path, "a script with something behind it that is no text")

    def _zip(self, path: str, pieces: Iterator[bytes], depth: int) -> None:
        with tempfile.SpooledTemporaryFile(max_size=16 << 20) as whole:
            for piece in pieces:
                whole.write(piece)
                if whole.tell() > _LARGEST_ZIP:
                    self.note(path, "an archive that is too large to look into")
                    return
            with zipfile.ZipFile(whole) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        self._zipped(f"{path}!{info.filename}", archive, info, depth)

    def _zipped(self, path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, depth: int) -> None:
        try:
            with archive.open(info) as member:
                self.file(path, False, member.read, depth)
        except _UNREADABLE as problem:
            self.note(path, f"it cannot be looked into: {problem or type(problem).__name__}")

    def _counted(self, pieces: Iterator[bytes], path: str) -> Iterator[bytes]:
        for piece in pieces:
            self._left -= len(piece)
            if self._left < 0:
                self.note(path, "archives that expand to more than can be looked into")
                raise _FullError
            yield piece


def _static_library(path: str, head: bytes) -> str:
    """An ar archive is a static library, unless it is a package of Debian for all architectures."""
    return "an ar archive" if head.startswith(_AR) and not path.endswith("_all.deb") else ""


def _pieces(head: bytes, read: Read) -> Iterator[bytes]:
    yield head
    while piece := read(_PIECE):
        yield piece


def _unpacked(pieces: Iterator[bytes], packed: str) -> Iterator[bytes]:
    if packed == "xz":
        return _decompressed(pieces, lzma.LZMADecompressor)
    if packed == "bzip2":
        return _decompressed(pieces, bz2.BZ2Decompressor)
    return expand(pieces, "gzip" if packed == "gzip" else "zstd")


def _decompressed(pieces: Iterator[bytes], make: Callable[[], Any]) -> Iterator[bytes]:
    """One stream of xz or bzip2 (of several that follow each other, the first)."""
    decompressor = make()
    for piece in pieces:
        if decompressor.eof:
            return
        yield decompressor.decompress(piece, _PIECE)
        while not decompressor.eof and not decompressor.needs_input:
            yield decompressor.decompress(b"", _PIECE)
