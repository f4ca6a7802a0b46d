"""One layer's bytes, read once: from the blob as stored to `LayerFacts`."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from array import array
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import Final

from polyarch.verify.elf import (
    EM_ARM,
    ET_DYN,
    ET_EXEC,
    HEAD,
    HEADER,
    MAGIC,
    NotElfError,
    header_of,
    interpreter_of,
    level_of,
    runpath_of,
)
from polyarch.verify.facts import (
    DEFAULT_LIMITS,
    KEPT_NAME,
    Compression,
    ElfKind,
    Fault,
    Kind,
    LayerFacts,
    Limits,
    name_word,
)
from polyarch.verify.root import ancestors
from polyarch.verify.streams import CHUNKED_MAGIC, CorruptError, ahead, expand, sniff
from polyarch.verify.tape import BLOCK, Content, MalformedError, Member, Tape, walk

_REGULAR: Final = frozenset((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE))
_DEVICES: Final = frozenset((tarfile.CHRTYPE, tarfile.BLKTYPE))
_KINDS: Final = {tarfile.DIRTYPE: Kind.DIRECTORY, tarfile.SYMTYPE: Kind.SYMLINK, tarfile.LNKTYPE: Kind.HARDLINK}
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_AR_MAGIC: Final = b"!<arch>\n"
_AR_NAMES: Final = 1 << 18  # bytes of an archive's table of long names that are kept
_WHOLE: Final = 8 << 20  # bytes of a file that are held where what matters is at its end; longer files go without
_SCRIPT_LINE: Final = 256  # BINPRM_BUF_SIZE of Linux
_LOADER_CONF: Final = "etc/ld.so.conf"
_CONF: Final = 1 << 16  # bytes of such a file that are read
_PACKAGED: Final = ("usr/bin/", "usr/sbin/", "usr/lib/", "usr/libexec/", "bin/", "sbin/", "lib/")
_SETUID: Final = 0o6000


class _FullError(Exception):
    """A limit was reached; the fault says which."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(code, "", message)


def scan(chunks: Iterable[bytes], limits: Limits = DEFAULT_LIMITS, algorithm: str = "sha256") -> LayerFacts:
    """Read a layer's blob to its end; whatever is wrong with the bytes becomes a `Fault`.

    `chunks` are the bytes as stored, `algorithm` (sha256 or sha512) is that of their digest. After a fault that stops
    the reading of the content, the blob is still hashed to its end, but not decompressed: `diff_id` is "" then. Raises
    `HostError` when a zstd layer meets a machine without zstandard.
    """
    blob = _Blob(iter(chunks), algorithm)
    head = blob.peek(BLOCK)
    compression = sniff(head)
    found = _Found(limits)
    diff = hashlib.sha256()
    plain = _Plain(blob, compression, diff, limits)
    whole = False
    try:
        if compression in ("tar", "gzip", "zstd", "empty"):
            with contextlib.closing(plain.pieces()) as pieces:
                _entries(Tape(pieces), found)
            whole = True
    except CorruptError as problem:
        found.faults.append(Fault("layer-corrupt", "", str(problem)))
    except _FullError as full:
        found.faults.append(full.fault)
    for _ in blob:
        pass
    return replace(
        found.facts(), digest=blob.digest, size=blob.size, compression=compression,
        diff_id=f"sha256:{diff.hexdigest()}" if whole else "", expanded=plain.size,
        chunked=blob.tail.endswith(CHUNKED_MAGIC),
    )  # fmt: skip


def _entries(tape: Tape, found: _Found) -> None:
    """Take every entry, and go on to the tape's end: the diff id is of all bytes, those behind the archive too."""
    try:
        for member, content in walk(tape):
            found.entry(member, content)
    except MalformedError as problem:
        found.faults.append(Fault("tar-malformed", "", str(problem)))
    tape.drain()


class _Blob:
    """The stored bytes, hashed and counted as they pass."""

    def __init__(self, chunks: Iterator[bytes], algorithm: str) -> None:
        self._chunks = chunks
        self._algorithm = algorithm
        self._sum = hashlib.new(algorithm)
        self._ahead = b""
        self.size = 0
        self.tail = b""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk, self._ahead = self._ahead, b""
        return chunk or self._read()

    def peek(self, size: int) -> bytes:
        """The first bytes, which stay to be read."""
        while len(self._ahead) < size:
            try:
                self._ahead += self._read()
            except StopIteration:
                break
        return self._ahead[:size]

    @property
    def digest(self) -> str:
        """`sha256:…` of what has passed."""
        return f"{self._algorithm}:{self._sum.hexdigest()}"

    def _read(self) -> bytes:
        chunk = next(self._chunks)
        self._sum.update(chunk)
        self.size += len(chunk)
        self.tail = (self.tail + chunk[-8:])[-8:]
        return chunk


class _Plain:
    """The decompressed bytes, hashed, counted and stopped when they are too many."""

    def __init__(self, blob: _Blob, compression: Compression, diff: hashlib._Hash, limits: Limits) -> None:
        self._blob = blob
        self._compression = compression
        self._diff = diff
        self._limits = limits
        self.size = 0

    def pieces(self) -> Generator[bytes, None, None]:
        """Raises `CorruptError`, and `_FullError` for a bomb."""
        with contextlib.closing(ahead(expand(self._blob, self._compression))) as pieces:
            for piece in pieces:
                self._diff.update(piece)
                self.size += len(piece)
                if self.size > self._limits.bomb_floor:
                    self._check()
                yield piece

    def _check(self) -> None:
        ratio = self.size // max(self._blob.size, 1)
        if self.size > self._limits.expanded or ratio > self._limits.ratio:
            raise _FullError("layer-bomb", f"{self._blob.size:,} bytes grew to more than {self.size:,} (1:{ratio})")


class _Found:
    """Gathers the facts of one layer. A path that comes twice is what came last, as when it is unpacked."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._text = 0
        self.faults: list[Fault] = []
        self._kinds: dict[ElfKind, int] = {}
        self._elves: dict[str, tuple[tuple[int, str], ...]] = {}
        self._interpreters: dict[str, str] = {}
        self._scripts: dict[str, str] = {}
        self._searched: dict[str, str] = {}
        self._symlinks: dict[str, str] = {}
        self._hardlinks: dict[str, str] = {}
        self._names: array[int] = array("Q")
        self._escapes: set[str] = set()

    def facts(self) -> LayerFacts:
        """What was found; the digests and sizes are for the caller to fill in."""
        return LayerFacts(
            "", 0, "", 0, "unknown", faults=tuple(self.faults), kinds=tuple(self._kinds), elves=self._elves,
            interpreters=self._interpreters, scripts=self._scripts,
            searched=self._searched, symlinks=self._symlinks, hardlinks=self._hardlinks,
            names=array("Q", sorted(self._names)),
        )  # fmt: skip

    def fault(self, code: str, path: str, message: str) -> None:
        """Note what is wrong or worth knowing. Raises `_FullError` when that is too much to keep."""
        self._count(path, message)
        self.faults.append(Fault(code, path, message))

    def entry(self, member: Member, content: Content) -> None:
        """Take one entry. Raises `MalformedError`, and `_FullError` when the layer holds too much."""
        path = self._path(member)
        if path is None:
            return
        if self._escapes and any(above in self._escapes for above in ancestors(path)):
            self.fault("unsafe-path", path, "an entry written through a link that leaves the root")
        folder, _, base = path.rpartition("/")
        if base.startswith(_WHITEOUT):
            self._whiteout(folder, base)
            return
        self._forget(path)
        if member.type in _REGULAR or member.type not in (*_KINDS, *_DEVICES, tarfile.FIFOTYPE):
            self._regular(path, member, content)
            return
        self._name(path, _KINDS.get(member.type, Kind.OTHER))
        if member.type == tarfile.SYMTYPE:
            self._keep(self._symlinks, path, member.linkname)
            if not member.linkname.startswith("/") and clean(f"{folder}/{member.linkname}") is None:
                self._escapes.add(path)
        elif member.type == tarfile.LNKTYPE:
            self._hardlink(path, member.linkname)
        elif member.type in _DEVICES:
            self.fault("device-file", path, "a device file")

    def _path(self, member: Member) -> str | None:
        path = clean(member.name)
        if path is None:
            self.fault("unsafe-path", member.name, "an entry outside of the root")
        return path

    def _name(self, path: str, kind: Kind) -> None:
        if len(self._names) >= self._limits.entries:
            raise _FullError("layer-limit", f"more than {self._limits.entries:,} entries")
        self._names.append(name_word(path) | kind)

    def _keep(self, where: dict[str, str], path: str, value: str) -> None:
        self._count(path, value)
        where[path] = value

    def _count(self, *texts: str) -> None:
        self._text += sum(map(len, texts)) + KEPT_NAME
        if self._text > self._limits.names:
            raise _FullError(
                "layer-limit", f"names of programs, links and faults that take more than {self._limits.names:,} bytes"
            )

    def _forget(self, path: str) -> None:
        for kept in (self._interpreters, self._scripts, self._symlinks, self._hardlinks):
            kept.pop(path, None)
        self._elves.pop(path, None)

    def _whiteout(self, folder: str, base: str) -> None:
        if base == _OPAQUE:
            self._name(folder, Kind.OPAQUE)
        elif not base.startswith(".wh..wh."):
            # Names with `.wh..wh.` are aufs's own bookkeeping.
            self._name(f"{folder}/{base[4:]}".lstrip("/"), Kind.WHITEOUT)

    def _hardlink(self, path: str, linkname: str) -> None:
        target = clean(linkname)
        if target is None:
            self.fault("unsafe-hardlink", path, "a hard link to outside of the root")
            return
        self._keep(self._hardlinks, path, target)
        if target in self._elves:
            self._count(path)
            self._elves[path] = self._elves[target]

    def _regular(self, path: str, member: Member, content: Content) -> None:
        runs = bool(member.mode & 0o111)
        self._name(path, Kind.EXECUTABLE if runs else Kind.FILE)
        if member.mode & _SETUID and runs:
            self.fault("setuid", path, "set-user-id or set-group-id program")
        start = content.take(min(8, content.left))
        if start.startswith(MAGIC):
            self._elf(path, start + content.take(HEAD - len(start)), content, runs)
        elif runs and start.startswith(b"#!"):
            line = (start + content.take(_SCRIPT_LINE - len(start))).split(b"\n", 1)[0]
            self._keep(self._scripts, path, line[2:].decode("utf-8", "surrogateescape").strip())
        elif start == _AR_MAGIC:
            self._archive(path, content)
        elif path == _LOADER_CONF or (path.startswith(f"{_LOADER_CONF}.d/") and path.endswith(".conf")):
            self._loader_conf(path, start + content.take(_CONF - len(start)))

    def _elf(self, path: str, head: bytes, content: Content, runs: bool) -> None:
        try:
            kind = header_of(head)
            interpreter = interpreter_of(head, kind) if runs else ""
            wanted = interpreter is None or kind.machine == EM_ARM or (interpreter and not _packaged(path))
            whole = head + content.take(content.left) if wanted and content.left <= _WHOLE else head
            if interpreter is None:
                interpreter = interpreter_of(whole, kind)
                if interpreter is None and not content.left:
                    raise NotElfError("its program headers or its interpreter lie behind its end")
        except NotElfError as problem:
            self.fault("elf-malformed", path, str(problem))
            return
        static = runs and kind.type in (ET_EXEC, ET_DYN) and interpreter == ""
        self._count(path)
        self._elves[path] = ((self._kind(replace(kind, level=level_of(whole, kind), static=static)), ""),)
        if interpreter:
            self._keep(self._interpreters, path, interpreter)
            if not _packaged(path) and (folders := runpath_of(whole, kind)):
                self._keep(self._searched, path, ":".join(folders))

    def _loader_conf(self, path: str, data: bytes) -> None:
        lines = [line.split(b"#", 1)[0].strip() for line in data.splitlines()]
        folders = [line.decode("utf-8", "surrogateescape") for line in lines if line.startswith(b"/")]
        if folders:
            self._keep(self._searched, path, ":".join(folders))

    def _kind(self, kind: ElfKind) -> int:
        return self._kinds.setdefault(kind, len(self._kinds))

    def _archive(self, path: str, content: Content) -> None:
        found: dict[int, str] = {}
        for member, head in ar_members(content):
            if head.startswith(MAGIC):
                try:
                    found.setdefault(self._kind(header_of(head)), member)
                except NotElfError as problem:
                    self.fault("elf-malformed", f"{path}({member})", str(problem))
        if found:
            self._count(path, *found.values())
            self._elves[path] = tuple(found.items())


def _packaged(path: str) -> bool:
    """Whether a program is where distributions have theirs, which find their libraries without a RUNPATH."""
    return path.startswith(_PACKAGED)


def clean(name: str) -> str | None:
    """A name of an entry relative to the root without `.`, doubled and outer slashes; None when it leaves the root."""
    path = name.removeprefix("./").strip("/")
    if path in (".", ""):
        return ""
    if "//" not in path and "/." not in path and not path.startswith("."):
        return path
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not kept:
                return None
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return "/".join(kept)


def ar_members(content: Content) -> Iterator[tuple[str, bytes]]:
    """Name and first bytes of each member of an ar archive (ar(5), GNU and BSD names); stops where it is damaged."""
    names = b""
    while len(header := content.take(60)) == 60 and header[58:] == b"`\n":
        name, digits = header[:16].rstrip(b" "), header[48:58].strip()
        if not digits.isdigit():
            return
        size = int(digits)
        padding = size & 1
        if name == b"//":
            names = content.take(min(size, _AR_NAMES))
            size -= len(names)
        elif name.startswith(b"#1/") and name[3:].isdigit():
            length = min(int(name[3:]), size, _AR_NAMES)
            name = content.take(length).rstrip(b"\0")
            size -= length
        elif name[:1] == b"/" and name[1:].isdigit():
            name = names[int(name[1:]) :].split(b"/", 1)[0]
        head = content.take(min(size, HEADER))
        yield name.rstrip(b"/").decode("utf-8", "replace"), head
        content.skip(size - len(head) + padding)
