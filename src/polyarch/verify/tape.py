"""A tar archive read forwards, once, with next to nothing held in memory.

Not `tarfile`: its stream mode keeps every member it met, copies all content through blocks of 10 KiB, and takes more
time than everything else that is done with a layer's entries. Here content is passed over without a copy.
Sources: POSIX.1-2017 pax, GNU tar manual "Basic Tar Format" (L and K long names, S sparse), and the layer rules of OCI
image-spec `layer.md`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 512
_HEADER_LIMIT: Final = 1 << 20  # bytes of a pax header or a long name
_SPARSE_LIMIT: Final = 1 << 16  # blocks of a sparse map
_WITHOUT_CONTENT: Final = frozenset(
    (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
)


class MalformedError(Exception):
    """The archive is damaged; the message says how. Never leaves this room."""


@dataclass(slots=True)
class Member:
    """One entry. `size` is the number of content bytes that follow on the tape."""

    name: str
    type: bytes
    mode: int
    size: int
    linkname: str


class Tape:
    """Bytes that come in pieces, taken or skipped in any amount."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end only."""
        end = self._at + size
        if end <= len(self._piece):
            out = self._piece[self._at : end]
            self._at = end
            return out
        parts = [self._piece[self._at :]]
        missing = size - len(parts[0])
        while missing and self._next():
            parts.append(self._piece[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return b"".join(parts)

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes; false when the tape ends before."""
        size -= len(self._piece) - self._at
        while size > 0:
            if not self._next():
                return False
            size -= len(self._piece)
        self._at = len(self._piece) + size
        return True

    def drain(self) -> None:
        """Pass over everything that is left."""
        while self._next():
            pass

    def _next(self) -> bool:
        """Go on to the next piece that is not empty."""
        for piece in self._pieces:
            if piece:
                self._piece, self._at = piece, 0
                return True
        self._piece, self._at = b"", 0
        return False


class Content:
    """The content of one member: reads never pass its end."""

    def __init__(self, tape: Tape, size: int) -> None:
        self._tape = tape
        self.left = size

    def take(self, size: int) -> bytes:
        """The next bytes; fewer at the end of the member. Raises `MalformedError` when the archive ends first."""
        size = min(size, self.left)
        out = self._tape.take(size)
        self.left -= size
        if len(out) < size:
            raise MalformedError("the archive ends inside a file")
        return out

    def skip(self, size: int) -> None:
        """Pass over bytes, at most to the end of the member. Raises `MalformedError` when the archive ends first."""
        size = min(size, self.left)
        self.left -= size
        if not self._tape.skip(size):
            raise MalformedError("the archive ends inside a file")


def walk(tape: Tape) -> Iterator[tuple[Member, Content]]:
    """Each entry in turn, with its content to be read before the next is asked for.

    Raises `MalformedError` at the first header that cannot be understood: what follows it has no known place.
    """
    extended: dict[str, str] = {}
    everywhere: dict[str, str] = {}
    while (header := _header(tape)) is not None:
        if header.size < 0:
            raise MalformedError("a negative size")
        if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            extended.update(_pax(_text_of(tape, header.size)))
            continue
        if header.type == tarfile.XGLTYPE:
            everywhere.update(_pax(_text_of(tape, header.size)))
            continue
        if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            key = "path" if header.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
            extended[key] = _decode(_text_of(tape, header.size).split(b"\0", 1)[0])
            continue
        member = _member(header, {**everywhere, **extended})
        stored = member.size
        content = Content(tape, stored)
        if extended.get("GNU.sparse.major") == "1" and stored:
            _skip_map(content)
        member.size = content.left
        yield member, content
        if not tape.skip(content.left + -stored % BLOCK):
            raise MalformedError("the archive ends inside a file")
        extended = {}


def _header(tape: Tape) -> Member | None:
    """The next header, or None at the end-of-archive mark. An archive may also just end between two entries."""
    block = tape.take(BLOCK)
    if not block.strip(b"\0"):
        # Unpackers disagree on a lone block of zeros: some stop there, some go on, so something could hide.
        if tape.take(BLOCK).strip(b"\0"):
            raise MalformedError("entries after a single block of zeros")
        return None
    if len(block) < BLOCK:
        raise MalformedError("the archive ends inside a header")
    try:
        member = _decode_header(block)
    except ValueError as problem:
        raise MalformedError(f"a header that is not tar's: {problem}") from problem
    if member.type == tarfile.GNUTYPE_SPARSE:
        _skip_sparse_headers(tape, block[482])
    return member


def _decode_header(block: bytes) -> Member:
    """The fields of a ustar, GNU or v7 header. Raises `ValueError`."""
    sums = sum(block) - sum(block[148:156]) + 256
    if _number(block[148:156]) != sums:
        raise ValueError("its checksum does not fit")
    kind = block[156:157]
    name = _decode(block[:100].split(b"\0", 1)[0])
    if block[345] and block[257:263] == b"ustar\0":
        name = _decode(block[345:500].split(b"\0", 1)[0]) + "/" + name
    if kind == tarfile.AREGTYPE and name.endswith("/"):
        kind = tarfile.DIRTYPE
    linkname = _decode(block[157:257].split(b"\0", 1)[0]) if block[157] else ""
    return Member(name, kind, _number(block[100:108]), _number(block[124:136]), linkname)


def _number(field: bytes) -> int:
    """Octal digits, or base 256 when the top bit is set. Raises `ValueError`."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        # 0x80 marks a positive number, 0xff a negative one in two's complement.
        return value - (1 << 8 * len(field)) if field[0] == 0xFF else value & ((1 << 8 * len(field) - 1) - 1)
    digits = field.split(b"\0", 1)[0].strip()
    if digits and not digits.isdigit():
        raise ValueError(f"{digits!r} is no number")
    return int(digits or b"0", 8)


def _skip_sparse_headers(tape: Tape, more: int) -> None:
    """Pass over the blocks that continue the map of an old GNU sparse file; byte 504 says whether another follows."""
    for _ in range(_SPARSE_LIMIT):
        if not more:
            return
        block = tape.take(BLOCK)
        if len(block) < BLOCK:
            raise MalformedError("the archive ends inside a sparse map")
        more = block[504]
    raise MalformedError("a sparse map without end")


def _member(header: Member, pax: dict[str, str]) -> Member:
    size = header.size
    if "size" in pax:
        if not pax["size"].isascii() or not pax["size"].isdigit() or len(pax["size"]) > 20:
            raise MalformedError(f"a pax size that is no number: {pax['size'][:40]!r}")
        size = int(pax["size"])
    if header.type in _WITHOUT_CONTENT:
        size = 0
    if not pax and size == header.size:
        return header
    name = pax.get("GNU.sparse.name") or pax.get("path") or header.name
    return Member(name, header.type, header.mode, size, pax.get("linkpath") or header.linkname)


def _text_of(tape: Tape, size: int) -> bytes:
    """The content of an extended header with its padding passed over."""
    if size > _HEADER_LIMIT:
        raise MalformedError(f"an extended header of {size} bytes")
    data = tape.take(size)
    if len(data) < size or not tape.skip(-size % BLOCK):
        raise MalformedError("the archive ends inside an extended header")
    return data


def _pax(data: bytes) -> dict[str, str]:
    r"""Records `LENGTH KEY=VALUE\n`. Raises `MalformedError`."""
    found: dict[str, str] = {}
    while data and data[0]:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or len(length) > 8:
            raise MalformedError("a pax record without a length")
        end = int(length)
        record = data[len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(data):
            raise MalformedError("a pax record that is cut off")
        found[_decode(key)] = _decode(value[:-1])
        data = data[end:]
    return found


def _skip_map(content: Content) -> None:
    """Pass over the map that precedes the data of a pax 1.0 sparse file: a count and two numbers each."""
    block = content.take(BLOCK)
    count, newline, _ = block.partition(b"\n")
    if not newline or not count.isdigit() or len(count) > 8:
        raise MalformedError("a sparse map without a count")
    lines = 1 + 2 * int(count) - block.count(b"\n")
    while lines > 0:
        block = content.take(BLOCK)
        if not block:
            raise MalformedError("a sparse map that is cut off")
        lines -= block.count(b"\n")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
